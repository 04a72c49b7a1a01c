"""Many clients and many rounds: a small page within seconds, which says what it leaves out."""

from __future__ import annotations

import json
import time

import pytest

LIMIT_BYTES = 5_000_000
LIMIT_SECONDS = 10.0  # a few on a machine with nothing else to do


@pytest.fixture
def timed(folder):
    def report() -> str:
        started = time.monotonic()
        page = folder.report()
        assert time.monotonic() - started < LIMIT_SECONDS
        assert len(page.encode()) < LIMIT_BYTES
        return page

    return report


def test_ten_thousand_clients(folder, timed, succeeded, failing):
    rounds = 15
    folder.spec |= {"rounds": rounds, "training_workers": [{}] * 10_000}
    folder.write_record()
    folder.write_round(0)
    clients = {f"client-{n}": succeeded(n) if n % 100 else failing() for n in range(10_000)}
    path = folder.write_round(1, clients)
    text = path.read_text()
    for number in range(2, rounds + 1):  # the same clients, without encoding them again
        later = path.parent.parent / f"round-{number:04d}"
        later.mkdir()
        changed = text.replace('"round": 1,', f'"round": {number},')
        (later / "result.json").write_text(changed)
    assert json.loads(changed)["round"] == rounds
    page = timed()
    assert f"{rounds} of {rounds} rounds" in page
    assert "The 50 slowest of 10,000 clients." in page
    assert "client-9999" in page
    assert page.count('<td class="name">client-') == 50
    assert "the results of the earlier ones are too large" in page
    assert "The 40 clients that worked longest, of 9,900." in page
    assert "ScriptFailed" in page


def test_a_thousand_rounds(folder, timed):
    folder.spec["rounds"] = 1000
    folder.write_run(1000)
    page = timed()
    assert "1,000 of 1,000 rounds" in page
    assert "the lowest and the highest value of each stretch" in page
    assert "mean of 9 rounds" in page
    assert "round 1000, a: train" in page
    assert "too large" not in page


def test_very_many_metrics_reasons_and_attempts(folder, timed, failing):
    folder.write_record()
    folder.write_round(0)
    clients = {f"c{n}": failing(f"Reason{n}" * 50, "m" * 100_000) for n in range(200)}
    metrics = {f"metric-{n:04}": float(n) for n in range(1000)}
    folder.write_round(1, clients, metrics=metrics, attempt=500)
    page = timed()
    assert "The first 16 of 1,000 metrics." in page
    assert "The 20 most frequent of 200 reasons." in page
    assert "the last 50 of them" in page
