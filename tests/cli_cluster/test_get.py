"""`fedloom get`: rows that say how jobs stand."""

from __future__ import annotations

import json

from cli.cluster.cells import seconds_text
from cli.cluster.listing import list_jobs, show_job


def test_a_row_tells_phase_round_clients_metric_and_reason(server, make):
    server.put("federatedlearningjobs", make.job(status=make.status(2, succeeded=2)))
    heads, row = [line.split() for line in list_jobs(server, "team", "table")]
    assert heads == ["NAME", "PHASE", "ROUND", "CLIENTS", "METRIC", "AGE", "REASON"]
    assert row[:6] == ["digits", "Running", "3/3", "2/2", "accuracy", "0.2"]
    assert row[-1] == "RoundRunning"


def test_wide_adds_nodes_workflow_and_run_and_all_adds_the_namespace(server, make):
    found = make.status(1, workflow={"engine": "argo", "name": "wf"}, tracking={"runId": "r1"})
    server.put("federatedlearningjobs", make.job(status=found))
    row = list(list_jobs(server, None, "wide"))[1].split()
    assert row[0] == "team"
    assert row[-3:] == ["edge-a,edge-b", "wf", "r1"]


def test_one_job_is_shown_with_its_clients_and_what_is_wrong(server, make):
    found = make.status(1)
    found["clients"][1] |= {"state": "Failed", "reason": "OOMKilled"}
    found["conditions"].append(
        {"type": "ResolvedRefs", "status": "False", "reason": "DatasetNotFound", "message": "no b"}
    )
    server.put("federatedlearningjobs", make.job(status=found))
    lines = list(show_job(server, "team", "digits", "table"))
    assert lines[1].split()[-1] == "DatasetNotFound"
    assert "b        edge-b   Failed" in lines[5]
    assert lines[5].endswith("OOMKilled")
    assert "ResolvedRefs=False  DatasetNotFound: no b" in lines


def test_a_new_job_and_a_status_written_by_hand_are_shown_too(server, make):
    server.put("federatedlearningjobs", make.job())
    server.put("federatedlearningjobs", make.job("odd", {"phase": ["what"], "clients": 3}))
    lines = list(list_jobs(server, "team", "table"))
    assert [line.split()[:3] for line in lines[1:]] == [
        ["digits", "Pending", "0/3"],
        ["odd", "Pending", "0/3"],
    ]


def test_json_is_the_object_itself_without_the_servers_bookkeeping(server, make):
    document = make.job(status=make.status(1))
    document["metadata"]["managedFields"] = [{}]
    server.put("federatedlearningjobs", document)
    found = json.loads("\n".join(show_job(server, "team", "digits", "json")))
    assert found["status"]["aggregationCount"] == 1
    assert "managedFields" not in found["metadata"]
    assert len(json.loads("\n".join(list_jobs(server, None, "json")))["items"]) == 1


def test_an_empty_namespace_says_so(server):
    assert list(list_jobs(server, "team", "table")) == ["no jobs in team"]
    assert list(list_jobs(server, None, "table")) == ["no jobs in any namespace"]


def test_durations_are_short():
    found = [seconds_text(each) for each in (None, 2.0, 4.24, 75, 750, 12000, 400000)]
    assert found == ["-", "2s", "4.2s", "75s", "12m", "3h20m", "4d"]
