"""A disk that fills up ends the job with a reason; what was committed stays good."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_job_goes_on_with_more_room(bench, small_disk, tmp_path):
    bench.files["train.py"] = bench.files["train.py"].replace(
        '"steps": np.array(0, np.int64)',
        '"steps": np.array(0, np.int64), "big": np.zeros(20000, np.float32)',
    )
    bench.spec["rounds"] = 12
    state = small_disk / "state"
    decision = bench.run(state)
    assert decision.phase == "Failed"
    assert decision.reason == "StoreFull"
    assert str(small_disk) in decision.message
    done = bench.finished["rounds"]
    assert 0 < done < 12
    assert not list(state.rglob(".fedloom-tmp-*"))

    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert bench.run(state).phase == "Succeeded"
    assert bench.rounds()[0]["round"] == done + 1
    digest = bench.finished["model"]["digest"]
    bench.run(tmp_path / "elsewhere")
    assert bench.finished["model"]["digest"] == digest


def test_a_state_folder_that_cannot_be_made_is_named(bench):
    (bench.folder / "file").write_text("")
    from fedloom.errors import StateError

    with pytest.raises(StateError, match="--state"):
        bench.run(Path(bench.folder / "file" / "state"))
