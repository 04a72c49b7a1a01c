"""`fedloom logs`: the right containers, in their order, each line with who said it."""

from __future__ import annotations

import pytest

from cli.cluster.logs import Wanted, print_logs
from fedloom.errors import JobError


@pytest.fixture
def cluster(server, make):
    server.put("federatedlearningjobs", make.job(status=make.status(2, "Failed")))
    states = {"init": make.ended(1, 1), "fetch": make.ended(1, 2), "train": make.ended(2, 3)}
    states |= {"compress": make.ended(2, 4), "wait": make.ended(1, 4)}
    for number in (1, 2):
        for who in ("b", "a"):
            server.put("pods", make.pod(who, states, number))
            for step in ("fetch", "train", "compress"):
                text = f"{who} {step} {number}\n".encode()
                server.log_texts[f"digits-8c2f1a77-r{number}-a1-{who}", step] = text
        server.put("pods", make.pod("server", {"main": make.ended(4, 5)}, number))
        server.log_texts[f"digits-8c2f1a77-r{number}-a1-server", "main"] = b"folded\nin two lines"
    return server


def printed(server, capsys, **wanted):
    assert print_logs(server, "team", "digits", Wanted(**wanted)) == 0
    return capsys.readouterr().out.splitlines()


def test_the_newest_round_by_client_and_step_then_the_server(cluster, capsys):
    assert printed(cluster, capsys) == [
        "a/fetch | a fetch 2",
        "a/train | a train 2",
        "a/compress | a compress 2",
        "b/fetch | b fetch 2",
        "b/train | b train 2",
        "b/compress | b compress 2",
        "server/server | folded",
        "server/server | in two lines",
    ]


def test_a_round_a_client_or_the_server_may_be_chosen(cluster, capsys):
    found = printed(cluster, capsys, round=1, client="b")
    assert found == ["b/fetch | b fetch 1", "b/train | b train 1", "b/compress | b compress 1"]
    assert len(printed(cluster, capsys, only_server=True)) == 2


def test_what_argo_says_in_a_container_is_left_out(cluster, capsys):
    pod = "digits-8c2f1a77-r2-a1-a"
    cluster.log_texts[pod, "train"] = (
        b'time="2026-11-21T13:28:42.393Z" level=info msg="sub-process exited" argo=true error="<nil>"\n'
        b'time="x" is my own line\n'
    )
    lines = [line for line in printed(cluster, capsys, client="a") if "train" in line]
    assert lines == ['a/train | time="x" is my own line']


def test_pods_that_are_gone_are_said_to_be(cluster, capsys):
    with pytest.raises(JobError, match="no pods of round 9: pods go ten minutes after"):
        print_logs(cluster, "team", "digits", Wanted(round=9))
    with pytest.raises(JobError, match="no pod of client 'z'"):
        print_logs(cluster, "team", "digits", Wanted(client="z"))
    del cluster.log_texts["digits-8c2f1a77-r2-a1-a", "train"]
    assert "a/train | (the pod is gone)" in printed(cluster, capsys)


def test_following_ends_with_the_job_and_has_read_everything(cluster, capsys):
    found = printed(cluster, capsys, is_followed=True, client="a")
    assert sorted(found) == [
        "a/compress | a compress 2",
        "a/fetch | a fetch 2",
        "a/train | a train 2",
    ]
