"""The ledger: nothing leaves uncharged, a retry is free, and no image passes its budget."""

from __future__ import annotations

import math
import stat
import subprocess
import sys
import threading

import pytest

from fedloom.errors import JobError
from fedloom.training.release_ledger import Charge, ReleaseLedger, Spending

CHARGE = Charge("sha256:x", flips=9, key="k", bits=100, epsilon=100.0)
OTHERS = {
    "extractor": Charge("sha256:y", 9, "k", 100, 100.0),
    "epsilon": Charge("sha256:x", 8, "k", 100, 120.0),
    "key": Charge("sha256:x", 9, "l", 100, 100.0),
    "bits": Charge("sha256:x", 9, "k", 101, 101.0),
}


def test_a_release_is_charged_once_and_its_retry_is_free(tmp_path):
    ledger = ReleaseLedger(tmp_path / "edge")
    assert ledger.charge(["a", "b"], CHARGE, 150) == Spending(2, 0, 100)
    assert ledger.charge(["b", "a"], CHARGE, 150) == Spending(0, 2, 100)
    assert ledger.charge(["a", "c"], CHARGE, 150) == Spending(1, 1, 100)
    assert [ledger.spent(image) for image in "abcd"] == [100, 100, 100, 0]


@pytest.mark.parametrize("other", OTHERS)
def test_another_release_adds_up(tmp_path, other):
    ledger = ReleaseLedger(tmp_path)
    ledger.charge(["a"], CHARGE, math.inf)
    charge = OTHERS[other]
    assert ledger.charge(["a"], charge, math.inf) == Spending(1, 0, 100 + charge.epsilon)


def test_beyond_the_budget_nothing_is_charged_and_the_numbers_are_told(tmp_path):
    ledger = ReleaseLedger(tmp_path)
    ledger.charge(["a"], CHARGE, 150)
    expected = (
        "1 of 2 images would pass their budget: spent 100, this release 120 "
        r"\(100 bits\), together 220, expected at most 150 \(maxEpsilon"
    )
    with pytest.raises(JobError, match=expected) as refused:
        ledger.charge(["b", "a"], OTHERS["epsilon"], 150)
    assert refused.value.reason == "PrivacyBudgetSpent"
    assert (ledger.spent("a"), ledger.spent("b")) == (100, 0)
    assert ledger.charge(["a"], CHARGE, 150).repeated == 1


def test_a_first_release_beyond_the_budget_is_refused(tmp_path):
    with pytest.raises(JobError, match="spent 0, this release 100"):
        ReleaseLedger(tmp_path).charge(["a"], CHARGE, 99)


def test_no_noise_passes_every_finite_budget(tmp_path):
    bare = Charge("sha256:x", 0, "k", 100, math.inf)
    ledger = ReleaseLedger(tmp_path)
    with pytest.raises(JobError, match="this release inf"):
        ledger.charge(["a"], bare, 1e300)
    assert ledger.charge(["a"], bare, math.inf).total_epsilon == math.inf
    with pytest.raises(JobError, match="spent inf"):
        ledger.charge(["a"], CHARGE, 1e300)


def test_a_retry_tells_what_was_spent_at_the_time(tmp_path):
    """So the manifest of a retried release is the same, whatever was released in between."""
    ledger = ReleaseLedger(tmp_path)
    first = ledger.charge(["a"], CHARGE, math.inf)
    second = ledger.charge(["a"], OTHERS["key"], math.inf)
    assert ledger.charge(["a"], CHARGE, math.inf).total_epsilon == first.total_epsilon == 100
    assert ledger.charge(["a"], OTHERS["key"], math.inf).total_epsilon == second.total_epsilon


def test_it_is_its_owners_alone(tmp_path):
    ReleaseLedger(tmp_path / "edge").charge(["a"], CHARGE, 150)
    (path,) = (tmp_path / "edge").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_releases_at_once_cannot_both_spend_the_last_of_a_budget(tmp_path):
    ledger, outcomes = ReleaseLedger(tmp_path), []

    def spend(number: int) -> None:
        try:
            ledger.charge(["a"], Charge(f"sha256:{number}", 9, "k", 100, 100.0), 150)
            outcomes.append("charged")
        except JobError as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["PrivacyBudgetSpent"] * 5 + ["charged"]


def test_what_a_killed_process_charged_is_charged(tmp_path):
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from fedloom.training.release_ledger import Charge, ReleaseLedger\n"
        "charge = Charge('sha256:x', 9, 'k', 100, 100.0)\n"
        "ReleaseLedger(Path(sys.argv[1])).charge(['a'], charge, 150)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert ended.returncode == -9
    assert ReleaseLedger(tmp_path).spent("a") == 100


def test_a_broken_ledger_lets_nothing_leave(tmp_path):
    (tmp_path / "releases.sqlite").write_bytes(b"not a ledger" * 1000)
    with pytest.raises(JobError, match="nothing may leave") as refused:
        ReleaseLedger(tmp_path).charge(["a"], CHARGE, math.inf)
    assert refused.value.reason == "LedgerUnusable"
