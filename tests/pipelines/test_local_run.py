"""The local engine's order of groups: any DAG, failures as data, reserves only in the place of others."""

from __future__ import annotations

from pipelines.engine import RunPhase
from pipelines.engines.local_run import LocalRun
from pipelines.engines.worker_pool import Answer
from pipelines.plan import Placement, Plan, Task

SLOTS = {"a": 0, "b": 1, "c": 0}


def task(name, group, client=None, depends=(), step="step"):
    return Task(
        name=name,
        step=step,
        group=group,
        client=client,
        depends=depends,
        may_fail=client is not None,
        inputs={},
        outputs={},
        settings={},
        placement=Placement("edge" if client else "cloud"),
    )


def run_of(*tasks, reserves=()):
    cohort = tuple(sorted({each.client for each in tasks if each.client}))
    plan = Plan(
        job={"namespace": "n", "name": "j", "uid": "u"},
        round=1,
        rounds=1,
        attempt=1,
        cohort=cohort,
        tasks=tasks,
        reserves=frozenset(reserves),
    )
    return LocalRun(plan, SLOTS, size=2)


def due(run):
    return sorted(g for slots in run.due_groups() for groups in slots.values() for g in groups)


def clients_then_server(*names, reserves=()):
    clients = [task(f"train-{name}", f"client-{name}", name) for name in names]
    end = task("commit", "server", depends=tuple(t.name for t in clients), step="commit")
    return run_of(*clients, end, reserves=reserves)


def test_groups_run_as_soon_as_what_they_depend_on_has_ended():
    run = run_of(
        task("keys-a", "keys-a", "a"),
        task("keys-b", "keys-b", "b"),
        task("train-a", "client-a", "a", ("keys-a", "keys-b")),
        task("train-b", "client-b", "b", ("keys-a", "keys-b")),
        task("list", "middle", None, ("train-a", "train-b")),
        task("open-a", "open-a", "a", ("list",)),
        task("commit", "server", None, ("open-a", "list"), step="commit"),
    )
    order = []
    while groups := due(run):
        order.append(groups)
        for group in groups:
            run.take(Answer(group, "Succeeded"))
    assert order == [
        ["keys-a", "keys-b"],
        ["client-a", "client-b"],
        ["middle"],
        ["open-a"],
        ["server"],
    ]
    assert run.phase is RunPhase.SUCCEEDED


def test_a_client_that_failed_is_told_to_the_server_and_ends_nothing():
    run = clients_then_server("a", "b")
    assert due(run) == ["client-a", "client-b"]
    run.take(Answer("client-b", "Failed", "ScriptFailed", "no"))
    assert due(run) == []
    run.take(Answer("client-a", "Succeeded"))
    assert due(run) == ["server"]
    assert b'"failures":{"b": {"reason": "ScriptFailed", "message": "no"}}' in run.message("server")
    assert run.status().clients == {"a": "Succeeded", "b": "Failed"}


def test_a_step_of_the_server_that_failed_ends_the_run():
    run = run_of(
        task("part", "part-1"),
        task("commit", "server", depends=("part",), step="commit"),
    )
    assert due(run) == ["part-1"]
    run.take(Answer("part-1", "Failed", "NotFinite", "NaN"))
    assert (run.phase, run.status().reason) == (RunPhase.FAILED, "NotFinite")
    assert due(run) == []


def test_a_client_keeps_its_worker_and_the_server_s_groups_are_spread():
    run = run_of(
        task("train-a", "client-a", "a"),
        task("train-c", "client-c", "c"),
        *(task(f"part-{i}", f"part-{i}", None, ("train-a", "train-c")) for i in range(3)),
        task("commit", "server", depends=("part-0", "part-1", "part-2"), step="commit"),
    )
    assert run.due_groups() == [{0: ["client-a"]}, {0: ["client-c"]}]
    run.take(Answer("client-a", "Succeeded"))
    run.take(Answer("client-c", "Succeeded"))
    assert run.due_groups() == [{0: ["part-0"], 1: ["part-1"]}, {0: ["part-2"]}]


def test_reserves_run_only_in_the_place_of_clients_that_failed():
    run = clients_then_server("a", "b", "c", reserves=["b", "c"])
    assert due(run) == ["client-a"]
    run.take(Answer("client-a", "Failed", "DeadlineExceeded", "slow"))
    assert due(run) == ["client-b"]
    run.take(Answer("client-b", "Succeeded"))
    assert due(run) == ["server"]
    assert b'"c": {"reason": "NotNeeded"' in run.message("server")
    assert run.status().clients == {"a": "Failed", "b": "Succeeded"}


def test_a_round_without_any_client_goes_straight_to_the_server():
    assert due(clients_then_server()) == ["server"]
