"""The groups of round 0 of a job that learns from others, as one process runs them.

mode warmStart, body    [initialize -> adopt-source -> (broadcast) -> commit]
mode auto               [initialize -> stage], per client [probe-0 ... probe-<n> -> score],
                        [choose -> (broadcast) -> commit]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from components import adopt_source, choose, commit, initialize, probe, stage
from components.beginning import Beginning
from components.request import Place, Request
from components.sequence import Clock, broadcast, record
from components.user_code import UserCode
from fedloom.errors import JobError

Requests = Mapping[str, Request]


def run_group(
    requests: Requests, place: Place, code: UserCode, failures: Mapping[str, Mapping[str, str]]
) -> None:
    """Run one of them. Raises JobError after writing down why."""
    if "score" in requests:
        probe.run(requests, place, code)
        return
    if "merge" in requests or "assess" in requests:
        from components import heads  # few jobs ask for it

        if "merge" in requests:
            heads.merge(requests["merge"], place, failures)
        else:
            heads.judge(requests, place, code)
        return
    if "stage" in requests:
        end = requests["stage"]
        end = replace(end, outputs={"attempt": end.settings["attempt"]})
    else:
        end = requests["commit"]
    clock = Clock()
    try:
        if "stage" in requests:
            scratch = initialize.run(requests["initialize"], place, code)
            stage.run(requests["stage"], place, scratch)
        else:
            beginning = _begin(requests, place, code, failures, clock)
            assert beginning.model is not None
            states = broadcast(requests, place, beginning.model, clock)
            told = beginning.to_document()
            commit.commit_initial(end, place, beginning.model, states, clock.steps, told)
    except JobError as error:
        record(end, place, error, None)
        raise


def _begin(
    requests: Requests,
    place: Place,
    code: UserCode,
    failures: Mapping[str, Mapping[str, str]],
    clock: Clock,
) -> Beginning:
    if "choose" in requests:
        with clock.step("choose"):
            return choose.run(requests["choose"], place, failures)
    with clock.step("initialize"):
        scratch = initialize.run(requests["initialize"], place, code)
    with clock.step("adopt-source"):
        return adopt_source.run(requests["adopt-source"], place, scratch)
