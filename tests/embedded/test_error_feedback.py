"""What biased codecs lose comes back: from a job's YAML alone, through stops, retries and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

CODECS = {
    "topk": {"fraction": 0.05},
    "stc": {"fraction": 0.05},
    "sign": {},
    "lowrank": {"rank": 1},
    "dgc": {"fraction": 0.05, "momentum": 0.5, "warmupRounds": 2},
}
ROUNDS = 6


@pytest.fixture
def wide(bench):
    bench.files["train.py"] = bench.files["train.py"].replace("(3, 2)", "(60, 21)")
    bench.spec["rounds"] = ROUNDS
    return bench


def use(bench, codec: str, **more: Any) -> None:
    bench.spec["compression"] = {"uplink": {"codec": codec, **CODECS[codec], **more}}


def interrupt(bench, state: Path, number: int) -> None:
    """Run the job until a round is committed and stop it there, as Ctrl-C does."""
    documents = read_documents([bench.write()])
    order = Order(documents, job_to_run(documents), state, parallel=2, is_tracked=False)

    def stop(event: dict[str, Any]) -> None:
        if event.get("round") == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_embedded(order, stop)


def residuals(state: Path) -> list[Path]:
    return sorted(state.glob("edge/*/fedloom/residual-*"))


def said(bench) -> list[str]:
    clients = [client for event in bench.rounds() for client in event["clients"].values()]
    return [client["message"] for client in clients if "message" in client]


@pytest.mark.parametrize("lossless", ["none", "zstd"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_job_that_was_stopped_goes_on_to_the_same_bits(wide, tmp_path, codec, lossless):
    use(wide, codec, lossless=lossless)
    assert wide.run(tmp_path / "whole").phase == "Succeeded"
    expected = [event["model"]["digest"] for event in wide.rounds()]
    size = 4 * 60 * 21
    assert all(e["traffic"]["uplink_bytes"] < 3 * size / 2 for e in wide.rounds()[2:])
    interrupt(wide, tmp_path / "stopped", 3)
    assert residuals(tmp_path / "stopped")
    wide.run(tmp_path / "stopped", parallel=1)
    after = [event["model"]["digest"] for event in wide.rounds()]
    assert after == expected[-len(after) :]
    assert not said(wide)


def test_it_can_be_turned_off(wide):
    digests = {}
    for is_on in (True, False):
        use(wide, "topk", errorFeedback=is_on)
        wide.run(wide.folder / str(is_on))
        digests[is_on] = [event["model"]["digest"] for event in wide.rounds()]
        assert bool(residuals(wide.folder / str(is_on))) is is_on
    assert digests[True][0] == digests[False][0], "nothing was lost before the first round"
    assert digests[True][1] != digests[False][1]


def test_it_is_on_for_biased_codecs_and_off_for_the_others(wide):
    for codec, is_on in (("topk", True), ("int8", False)):
        wide.spec["compression"] = {"uplink": {"codec": codec}}
        wide.run(wide.folder / codec)
        assert bool(residuals(wide.folder / codec)) is is_on


def test_an_attempt_that_failed_leaves_no_trace(wide, tmp_path):
    """Two clients sent an update in vain; it is not added to the same update of the next attempt."""
    use(wide, "topk")
    wide.spec["participation"] |= {"minClients": 3, "retries": 1}
    wide.run(tmp_path / "whole")
    expected = wide.finished["model"]["digest"]
    wide.break_client(
        "b",
        "import os\n"
        "if context.number == 3 and not os.path.exists('failed'):\n"
        "    open('failed', 'w').close()\n"
        "    raise RuntimeError('no battery')",
    )
    wide.files["train.py"] = wide.files["train.py"].replace("(3, 2)", "(60, 21)")
    assert wide.run(tmp_path / "failed").phase == "Succeeded"
    assert wide.finished["model"]["digest"] == expected


def test_a_damaged_residual_is_said_and_the_job_goes_on(wide):
    use(wide, "stc")
    interrupt(wide, wide.state, 3)
    for path in residuals(wide.state):
        if path.parts[-3] == "a":
            path.write_bytes(path.read_bytes()[:-1])
    assert wide.run().phase == "Succeeded"
    (message,) = said(wide)
    assert "error feedback begins anew" in message


def test_a_script_s_own_state_folder_stays_its_own(wide):
    use(wide, "stc")
    wide.spec["compression"]["downlink"] = {"codec": "int8"}
    wide.files["train.py"] = wide.files["train.py"].replace(
        "rng = np.random.default_rng(context.seed)",
        "names = sorted(path.name for path in self.client.state.iterdir())\n"
        "        assert names == [f'{n}.txt' for n in range(1, context.number)], names\n"
        "        (self.client.state / f'{context.number}.txt').touch()\n"
        "        rng = np.random.default_rng(context.seed)",
    )
    assert wide.run().phase == "Succeeded"
    assert not said(wide)
