"""`fedloom watch` from its first look to its exit code, against a server that changes meanwhile."""

from __future__ import annotations

import json
import threading

import pytest

from cli.cluster.watch import watch_job


def later(*changes):
    """Do things one after another, a little apart, while the test watches."""

    def work():
        for change in changes:
            threading.Event().wait(0.15)
            change()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def put(server, job, verb="MODIFIED"):
    return lambda: server.put("federatedlearningjobs", job, verb)


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Failed", 1)])
def test_it_ends_with_the_job_and_its_last_line_says_how(server, make, capsys, phase, code):
    put(server, make.job(status=make.status(0)))()
    later(
        put(server, make.job(status=make.status(1))),
        put(server, make.job(status=make.status(2))),
        put(server, make.job(status=make.status(2, phase))),
    )
    assert watch_job(server, "team", "digits", "json", 20.0) == code
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["round", "round", "finished"]
    assert [event["round"] for event in events[:2]] == [1, 2]
    assert events[-1]["phase"] == phase


def test_versions_that_come_faster_than_it_looks_are_all_told(server, make, capsys):
    put(server, make.job(status=make.status(0)))()
    jobs = [make.job(status=make.status(n)) for n in range(1, 6)]
    jobs.append(make.job(status=make.status(5, "Succeeded")))
    later(lambda: [put(server, job)() for job in jobs])
    assert watch_job(server, "team", "digits", "json", 20.0) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.get("round") for event in events] == [1, 2, 3, 4, 5, None]


def test_without_a_terminal_it_writes_a_line_per_event(server, make, capsys):
    put(server, make.job(status=make.status(3, "Succeeded")))()
    assert watch_job(server, "team", "@latest", "table", 20.0) == 0
    out = capsys.readouterr().out
    assert out.startswith("team/digits: 3 rounds, 2 clients\n")
    assert "round   3/3  accuracy 0.3000" in out
    assert "Succeeded: all" in out
    assert "\x1b" not in out


def test_a_job_that_is_deleted_ends_it_with_1(server, make, capsys):
    job = make.job(status=make.status(1))
    put(server, job)()
    later(put(server, job, "DELETED"))
    assert watch_job(server, "team", "digits", "table", 20.0) == 1
    assert "Deleted: the job was deleted" in capsys.readouterr().out


def test_it_gives_up_after_the_timeout(server, make, capsys):
    put(server, make.job(status=make.status(1)))()
    assert watch_job(server, "team", "digits", "table", 0.0) == 1
    assert "TimedOut" in capsys.readouterr().out


def test_who_may_not_look_at_workflows_still_sees_the_rounds(server, make, capsys):
    server.forbidden |= {"workflows", "pods"}
    put(server, make.job(status=make.status(1)))()
    later(put(server, make.job(status=make.status(2, "Succeeded"))))
    assert watch_job(server, "team", "digits", "table", 20.0) == 0
    out = capsys.readouterr().out
    assert "NotSeen: workflows is forbidden" in out
    assert "round   2/3" in out
