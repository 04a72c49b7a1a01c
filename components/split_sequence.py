"""The steps of one node of a mistnet job in order, where one process does them: the embedded engine's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from components import (
    adopt_tail,
    collect,
    commit,
    disclosure,
    send,
    split_files,
    store_extractor,
    user_code,
)
from components.aggregated import Aggregated
from components.outcome import read_outcome
from components.request import Place, Request
from components.sequence import Clock, edge_state_of, record
from fedloom.errors import JobError, UpdateError

Requests = Mapping[str, Request]


def run_group(
    requests: Requests,
    place: Place,
    code: user_code.UserCode,
    failures: Mapping[str, Mapping[str, str]],
) -> None:
    """Run the steps of one group of such a job's plan. Raises JobError after writing down why."""
    if "release" in requests:
        run_client(requests, place, code)
    elif "prepare-extractor" in requests:
        run_initial(requests, place, code)
    else:
        run_server(requests, place, code, failures)


def run_client(requests: Requests, place: Place, code: user_code.UserCode) -> None:
    """Release and send; the report is in the store when this returns. Raises UpdateError, JobError."""
    clock, release = Clock(), requests["release"]
    assert release.client is not None
    state = edge_state_of(place.edge, release.client)
    with clock.step("release"):
        folder = state.begin(release.settings["accepted"])
        environment = split_files.told(release, place, folder)
        assert environment.model is not None
        environment.model.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(user_code.fetch(place, release.inputs["model"]), environment.model)
        code.perform_split(environment, release, place)
    with clock.step("send"):
        assert environment.update is not None
        assert environment.result is not None
        report = send.run(requests["send"], place, environment.update, environment.result)
    environment.update.unlink()
    state.finish(report["update"]["digest"])
    report["steps"] = clock.steps
    report["seconds"] = round(clock.steps["send"][1] - clock.steps["release"][0], 6)
    send.write_report(requests["send"], place, report)


def run_initial(requests: Requests, place: Place, code: user_code.UserCode) -> None:
    """Make and commit round 0: the first model and its extractor."""
    clock, end = Clock(), requests["commit"]
    try:
        split_files.clear(place.work)
        with clock.step("prepare-extractor"):
            _perform(requests["prepare-extractor"], place, code, "NoInitialModel")
        model, states = store_extractor.run(requests["store-extractor"], place)
        commit.commit_initial(end, place, model, states, clock.steps)
    except JobError as error:
        record(end, place, error, None)
        raise


def run_server(
    requests: Requests,
    place: Place,
    code: user_code.UserCode,
    failures: Mapping[str, Mapping[str, str]],
) -> None:
    """Train the tail on all releases, try it, tell what they disclosed, and commit."""
    clock, end = Clock(), requests["commit"]
    found: Aggregated | None = None
    metrics: Mapping[str, float] = {}
    try:
        split_files.clear(place.work)
        with clock.step("collect"):
            found = collect.run(requests["collect"], place, failures)
        if len(found.reports) < requests["collect"].settings["min_clients"]:
            raise JobError("TooFewClients", commit.too_few(requests["collect"], found))
        with clock.step("train-tail"):
            _perform(requests["train-tail"], place, code, "TrainingFailed")
            adopt_tail.run(requests["adopt-tail"], place, found)
        if "evaluate" in requests:
            with clock.step("evaluate"):
                _perform(requests["evaluate"], place, code, "EvaluationFailed")
            metrics = read_outcome(None, place.work / split_files.TRIAL_FILE).metrics or {}
        if "leakage-report" in requests:
            with clock.step("leakage-report"):
                _perform(requests["leakage-report"], place, code, "LeakageReportFailed")
        metrics = {**metrics, **disclosure.disclose(end, place, found, metrics)}
        commit.commit_round(end, place, found, metrics, clock.steps)
    except JobError as error:
        record(end, place, error, found)
        raise
    finally:
        split_files.clear(place.work)


def _perform(request: Request, place: Place, code: user_code.UserCode, reason: str) -> None:
    state = user_code.fresh_folder(place.work)
    try:
        split_files.perform(request, place, code, state)
    except UpdateError as error:
        raise JobError(reason, f"{request.step}: {error.reason}: {error.message}") from error
    finally:
        user_code.clear(state)
