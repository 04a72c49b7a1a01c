"""A job whose rounds, quorum and aggregation are said by its aggregation program alone."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.errors import InvalidJobError


def test_the_program_says_how_many_rounds_there_are(mover):
    mover.describe({"rounds": 2, "participants": 2})
    decision = mover.run()
    assert (decision.phase, decision.reason) == ("Succeeded", "RoundsDone")
    assert len(mover.rounds()) == 2
    assert mover.result(0)["description"] == {"rounds": 2, "participants": 2}
    assert mover.notices("Described")
    assert mover.result(1)["rounds"] == 2


def test_what_the_document_says_comes_before_what_the_program_says(mover):
    mover.keep_clients(1)
    mover.spec |= {"compat": "sedna", "rounds": 1}
    assert mover.run().phase == "Succeeded"
    assert len(mover.rounds()) == 1


def test_a_program_of_the_job_combines_the_updates_if_it_has_registered_an_aggregation(mover):
    mover.describe({"rounds": 2, "aggregation": "Median"})
    assert mover.run().phase == "Succeeded"
    own = mover.model(2)
    assert mover.result(2)["metrics"]["aggregation/clients"] == 3
    mover.spec |= {"compat": "sedna", "aggregation": {"rule": "median"}}
    assert mover.run("other").phase == "Succeeded"
    np.testing.assert_allclose(own["w"], mover.model(2, "other")["w"], rtol=1e-5)


def test_what_a_program_says_and_cannot_be_ends_the_job_with_the_reason(mover):
    mover.describe({"algorithm": "fedmagic"})
    decision = mover.run()
    assert (decision.phase, decision.reason) == ("Failed", "DescriptionRefused")
    assert "fedmagic" in decision.message


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("pass", "wrote no description"),
        ("import os; open(os.environ['FEDLOOM_RESULT'], 'w').write('{')", "not JSON"),
        (
            "import os; open(os.environ['FEDLOOM_RESULT'], 'w').write('{\"rounds\": \"many\"}')",
            "rounds: got 'many', expected an integer from 1 to 100000",
        ),
    ],
)
def test_a_program_that_says_nothing_useful_changes_nothing(mover, program, problem):
    mover.keep_clients(1)
    mover.files["aggregate.py"] = program
    decision = mover.run()
    assert (decision.phase, len(mover.rounds())) == ("Succeeded", 1)
    assert problem in mover.result(0)["description"]["problem"]
    assert problem in mover.notices("NotDescribed")[0]


def test_an_image_without_a_command_is_not_asked_on_one_machine(mover):
    mover.keep_clients(1)
    del mover.spec["aggregationWorker"]["template"]["spec"]["containers"][0]["command"]
    assert mover.run().phase == "Succeeded"
    assert "ignore the image" in mover.result(0)["description"]["problem"]


def test_a_job_of_fedlooms_own_may_combine_by_a_program_too(mover):
    mover.spec |= {
        "rounds": 2,
        "aggregation": {"rule": "script"},
        "compression": {"uplink": {"codec": "int8"}, "downlink": {"codec": "bf16"}},
        "participation": {"minClients": 2, "retries": 0},
    }
    crash = "if task == 'train' and os.environ['DATASET_NAME'] == 'c': raise SystemExit(1)\nmodel ="
    mover.files["train.py"] = mover.files["train.py"].replace("model =", crash, 1)
    assert mover.run().phase == "Succeeded"
    assert "description" not in mover.result(0)
    result = mover.result(2)
    assert result["metrics"]["aggregation/clients"] == 2
    assert {name: client["state"] for name, client in result["clients"].items()} == {
        "a": "Succeeded",
        "b": "Succeeded",
        "c": "Failed",
    }
    digest = result["model"]["digest"]
    assert mover.run("again", parallel=1).phase == "Succeeded"
    assert mover.result(2, "again")["model"]["digest"] == digest


def test_a_program_needs_a_command_on_one_machine(mover):
    mover.spec |= {"rounds": 1, "aggregation": {"rule": "script"}}
    del mover.spec["aggregationWorker"]["template"]["spec"]["containers"][0]["command"]
    with pytest.raises(InvalidJobError, match=r"aggregationWorker\.template.*got no command"):
        mover.run()


def test_a_program_that_waits_for_clients_is_given_up(mover, monkeypatch):
    monkeypatch.setattr("pipelines.script_tasks._DESCRIBE_SECONDS", 0.5)
    mover.keep_clients(1)
    mover.files["aggregate.py"] = "import time; time.sleep(60)"
    assert mover.run().phase == "Succeeded"
    assert "wrote no description" in mover.result(0)["description"]["problem"]
