"""Every uplink codec carries a whole job, from its YAML alone: fewer bytes, near models, same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

CODECS = ("none", "bf16", "int8", "int4")
"""Those whose bytes follow from the number of values alone; `test_error_feedback` has the others."""
BYTES_PER_VALUE = {"none": 4.0, "bf16": 2.0, "int8": 1 + 4 / 256, "int4": 0.5 + 4 / 32}
SHAPE, HEADER_BYTES = (300, 21), 400


@pytest.fixture
def wide_bench(bench):
    bench.files["train.py"] = bench.files["train.py"].replace("(3, 2)", str(SHAPE))
    return bench


def interrupt(bench, state: Path, number: int) -> None:
    """Run the job until a round is committed and stop it there, as Ctrl-C does."""
    documents = read_documents([bench.write()])
    order = Order(documents, job_to_run(documents), state, parallel=2, is_tracked=False)

    def stop(event: dict[str, Any]) -> None:
        if event.get("round") == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_embedded(order, stop)


def test_bytes_shrink_from_codec_to_codec_and_the_model_stays_near(wide_bench, read_model):
    sent, models = {}, {}
    for codec in CODECS:
        wide_bench.spec["compression"] = {"uplink": {"codec": codec}}
        assert wide_bench.run(wide_bench.folder / codec).phase == "Succeeded"
        (sent[codec],) = {
            client["uplink_bytes"]
            for event in wide_bench.rounds()
            for client in event["clients"].values()
        }
        models[codec] = read_model(wide_bench.finished)
    assert sorted(sent, key=sent.get, reverse=True) == list(CODECS)
    for codec, size in sent.items():
        payload = np.prod(SHAPE) * BYTES_PER_VALUE[codec]
        assert payload <= size <= payload + HEADER_BYTES
        assert models[codec]["steps"] == models["none"]["steps"]
        difference = models[codec]["w"].astype(np.float64) - models["none"]["w"]
        # No step of an update is above a seventh of what the script moves a value by, 5 at most.
        assert np.abs(difference).max() < 1
        assert abs(difference.mean()) < 0.01


@pytest.mark.parametrize("codec", CODECS)
def test_a_job_that_was_stopped_goes_on_to_the_same_bits(wide_bench, tmp_path, codec):
    wide_bench.spec["compression"] = {"uplink": {"codec": codec}}
    wide_bench.run(tmp_path / "whole")
    expected = wide_bench.finished["model"]["digest"]
    interrupt(wide_bench, tmp_path / "stopped", 2)
    wide_bench.run(tmp_path / "stopped")
    assert [event["round"] for event in wide_bench.rounds()] == [3]
    assert wide_bench.finished["model"]["digest"] == expected


@pytest.mark.parametrize("codec", ["int8", "int4"])
def test_a_codec_s_parameter_changes_what_is_sent(wide_bench, codec):
    sent = []
    for block_size in (16, 256):
        wide_bench.spec["compression"] = {"uplink": {"codec": codec, "blockSize": block_size}}
        wide_bench.run(wide_bench.folder / str(block_size))
        sent.append(wide_bench.rounds()[0]["traffic"]["uplink_bytes"])
    assert sent[0] > sent[1] + 3 * 4 * (np.prod(SHAPE) // 16 - np.prod(SHAPE) // 256) * 0.9


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_zstd_takes_bytes_off_and_changes_no_bits(wide_bench, codec):
    sent, digests = [], []
    for lossless in ("none", "zstd"):
        wide_bench.spec["compression"] = {"uplink": {"codec": codec, "lossless": lossless}}
        wide_bench.run(wide_bench.folder / lossless)
        sent.append(wide_bench.rounds()[0]["traffic"]["uplink_bytes"])
        digests.append(wide_bench.finished["model"]["digest"])
    assert digests[0] == digests[1]
    assert sent[1] < 0.9 * sent[0]
