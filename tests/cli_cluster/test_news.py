"""What `watch` tells: the events of `fedloom run -o json`, each once, however late it looks."""

from __future__ import annotations

import json

from cli.cluster.news import News, in_short, numbers
from cli.cluster.picture import Picture
from cli.screens import lines_of
from controller.cluster.pods import kept_of_pod
from controller.cluster.workflows import kept_of_workflow
from controller.embedded.events import round_event

NOW = 1767225620.0
RESULT = {
    "round": 1,
    "rounds": 3,
    "seconds": 1.0,
    "metrics": {},
    "traffic": {"uplink_bytes": 0, "downlink_bytes": 0},
    "model": {"uri": "", "digest": ""},
    "clients": {
        "a": dict.fromkeys(
            (
                "state",
                "num_examples",
                "seconds",
                "uplink_bytes",
                "downlink_bytes",
                "metrics",
                "message",
            )
        )
        | {"reason": None}
    },
}


def tell(news, job, workflows=(), pods=()):
    kept = [*map(kept_of_workflow, workflows)], [*map(kept_of_pod, pods)]
    return news.take(Picture(job, *kept, ("a", "b")), NOW)


def of(events, kind):
    return [event for event in events if event["event"] == kind]


def test_a_rounds_event_has_the_very_fields_of_an_embedded_runs(make):
    (event,) = of(tell(News(), make.job(status=make.status(1)), [make.workflow(1)]), "round")
    wanted = round_event(RESULT)
    assert event.keys() == wanted.keys()
    assert event["clients"]["a"].keys() == wanted["clients"]["a"].keys()
    assert json.loads(json.dumps(event, allow_nan=False)) == event
    assert lines_of(event)


def test_each_committed_round_is_told_once_with_its_own_traffic_and_time(make):
    news = News()
    assert of(tell(news, make.job(status=make.status(0))), "round") == []
    done = [make.workflow(1, phase="Succeeded")]
    (first,) = of(tell(news, make.job(status=make.status(1)), done), "round")
    assert of(tell(news, make.job(status=make.status(1)), done), "round") == []
    (second,) = of(tell(news, make.job(status=make.status(2))), "round")
    assert [first["round"], second["round"]] == [1, 2]
    assert first["seconds"] == 12.0
    assert second["seconds"] is None
    assert second["traffic"] == {"uplink_bytes": 20, "downlink_bytes": 40}
    assert second["metrics"] == {"accuracy": 0.2, "train/loss": 0.5}
    assert second["model"] == {"uri": "s3://b/round-2", "digest": "sha256:2"}
    assert second["clients"]["b"]["num_examples"] == 100


def test_who_comes_late_is_told_the_last_round_and_that_others_were(make):
    events = tell(News(), make.job(status=make.status(3)))
    (notice,), (event,) = of(events, "notice"), of(events, "round")
    assert notice["message"] == "rounds 1 to 2 were committed before"
    assert event["round"] == 3
    assert event["traffic"] == {"uplink_bytes": 20, "downlink_bytes": 40}


def test_clients_that_the_next_round_has_overwritten_are_taken_from_the_workflow(make):
    status = make.status(1)
    status["clients"] = [make.client("a", 2, state="Running"), make.client("b", 2, state="Pending")]
    pods = [
        make.pod("a", {"train": make.ended(1, 5)}, phase="Succeeded"),
        make.pod("b", {"train": make.ended(1, 5, 137, "")}, phase="Failed"),
    ]
    (event,) = of(tell(News(), make.job(status=status), [make.workflow(1)], pods), "round")
    assert event["clients"]["a"]["state"] == "Succeeded"
    assert (event["clients"]["b"]["state"], bool(event["clients"]["b"]["reason"])) == (
        "Failed",
        True,
    )


def test_the_pod_knows_better_than_the_cloud_why_nothing_came(make):
    status = make.status(1)
    status["clients"][1] |= {"state": "Failed", "reason": "NoUpdate"}
    failed = {"train": make.ended(1, 5, 3, "Traceback\nValueError: bad rate")}
    pods = [make.pod("b", failed, phase="Failed")]
    (event,) = of(tell(News(), make.job(status=status), [make.workflow(1)], pods), "round")
    assert event["clients"]["b"]["reason"] == "ScriptFailed"
    assert event["clients"]["b"]["message"].endswith("ValueError: bad rate")


def test_the_end_comes_once_and_last(make):
    news = News()
    tracking = {"runId": "r", "url": "http://m/r", "experimentId": "1"}
    condition = {
        "type": "TrackingAvailable",
        "status": "True",
        "reason": "Available",
        "message": "",
    }
    status = make.status(3, "Succeeded", tracking=tracking)
    status["conditions"].append(condition)
    events = tell(news, make.job(status=status))
    assert [event["event"] for event in events][-2:] == ["round", "finished"]
    end = events[-1]
    assert (end["phase"], end["reason"], end["rounds"]) == ("Succeeded", "RoundsDone", 3)
    assert end["metrics"] == {"accuracy": 0.3, "train/loss": 0.5}
    assert end["tracking"] == {
        "available": True,
        "experiment_id": "1",
        "run_id": "r",
        "url": "http://m/r",
    }
    assert tell(news, make.job(status=status)) == []


def test_a_job_that_failed_before_any_model_ends_without_one(make):
    (end,) = tell(News(), make.job(status=make.status(None, "Failed")))
    assert (end["phase"], end["reason"], end["rounds"], end["model"]) == (
        "Failed",
        "TooFewUpdates",
        0,
        None,
    )


def test_what_is_wrong_is_told_when_it_changes_and_when_it_heals(make):
    def with_refs(state, reason):
        wrong = {"type": "ResolvedRefs", "status": state, "reason": reason, "message": "m"}
        return make.job(status={"phase": "Pending", "conditions": [wrong]})

    news = News()
    told = [
        [event["reason"] for event in tell(news, job)]
        for job in (
            with_refs("False", "DatasetNotFound"),
            with_refs("False", "DatasetNotFound"),
            with_refs("False", "NodeNotFound"),
            with_refs("True", "Resolved"),
            with_refs("True", "Resolved"),
        )
    ]
    assert told == [["DatasetNotFound"], [], ["NodeNotFound"], ["Resolved"], []]


def test_clients_are_told_of_once_though_reasons_of_waiting_come_and_go(make):
    def waiting(reason):
        state = {"waiting": {"reason": reason, "message": "m"} if reason else {}}
        return make.pod("a", {"train": state}, phase="Pending")

    news, job = News(), make.job(status=make.status(0))
    told = []
    for reason in ("", "ErrImagePull", "", "ImagePullBackOff", ""):
        events = tell(news, job, [make.workflow(1)], [waiting(reason)])
        told += [event["reason"] for event in events]
    failed = make.pod("a", {"train": make.ended(1, 5, 1)}, phase="Failed")
    for _ in range(2):
        told += [e["reason"] for e in tell(news, job, [make.workflow(1)], [failed])]
    assert told == ["RoundStarted", "ClientWaiting", "ClientFailed"]


def test_a_round_begins_after_the_one_before_it_was_told(make):
    news = News()
    both = [make.workflow(1), make.workflow(2)]
    assert tell(news, make.job(status=make.status(0)), both) == []
    events = tell(news, make.job(status=make.status(1)), both)
    assert [event["event"] for event in events] == ["round", "notice"]


def test_of_many_clients_only_failures_are_told_one_by_one(make):
    pods = [make.pod(f"c{n}", {"train": make.running(1)}) for n in range(50)]
    pods[7] = make.pod("c7", {"train": make.ended(1, 2, 1)}, phase="Failed")
    events = tell(News(), make.job(status=make.status(0)), [make.workflow(1)], pods)
    assert [event["reason"] for event in events] == ["RoundStarted", "ClientFailed"]


def test_numbers_are_what_json_can_hold():
    assert numbers({"a": "0.5", "b": "nan", "c": "inf", "d": "x"}) == {"a": 0.5}
    assert in_short("train ended\nx\ny\nlast") == "train ended ... last"
    assert in_short("one") == "one"
