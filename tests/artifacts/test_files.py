"""Files that appear whole or not at all, wherever a name says."""

from __future__ import annotations

import pytest

from fedloom.artifacts.files import NewFile


@pytest.mark.parametrize("name", ["model.npz", "output/model.npz", "a/b/model.npz", "./model.npz"])
def test_a_relative_name_means_the_current_folder_durable_or_not(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for durable in (False, True):
        with NewFile(name) as file:
            file.write(b"weights")
            assert file.publish(replace=True, durable=durable)
    assert (tmp_path / name).read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == ["model.npz"]
