"""Datasets: what files become, and that an empty or missing one gives no samples and no error."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from compat.sedna.datasources import (
    BaseDataSource,
    CSVDataParse,
    JSONDataParse,
    TxtDataParse,
)

CSV = "a,b,label\n1,2,0\n3,4,1\n"


def test_an_index_gives_features_and_labels(tmp_path):
    (tmp_path / "i.txt").write_text("one.jpg 1\n\ntwo.jpg 0\nthree.jpg\n")
    data = TxtDataParse("train")
    data.parse(str(tmp_path / "i.txt"))
    assert data.x.tolist() == ["one.jpg", "two.jpg", "three.jpg"]
    assert data.y.tolist() == ["1", "0", "0"]
    assert (len(data), data.is_test_data) == (3, False)


def test_a_function_makes_samples_and_may_leave_lines_out(tmp_path):
    (tmp_path / "i.txt").write_text("1\n2\n3\n")
    data = TxtDataParse("train", func=lambda line: None if line == "2" else (float(line), 7))
    data.parse(str(tmp_path / "i.txt"), str(tmp_path / "gone.txt"), None)
    assert (data.x.tolist(), data.y.tolist()) == ([1.0, 3.0], [7, 7])


def test_raw_lines_keep_their_parts_and_test_data_has_no_labels(tmp_path):
    (tmp_path / "i.txt").write_text("a 1\nb 2\n")
    raw = TxtDataParse("train")
    raw.parse(str(tmp_path / "i.txt"), use_raw=True)
    assert raw.x.tolist() == [["a", "1"], ["b", "2"]]
    test = TxtDataParse("test")
    test.parse(str(tmp_path / "i.txt"))
    assert len(test.y) == 0


def test_samples_of_different_shapes_stay_objects(tmp_path):
    (tmp_path / "i.txt").write_text("1\n2\n")
    data = TxtDataParse("train", func=lambda line: (np.zeros(int(line)), 0))
    data.parse(str(tmp_path / "i.txt"))
    assert [x.shape for x in data.x] == [(1,), (2,)]


@pytest.mark.parametrize("kind", [TxtDataParse, CSVDataParse, JSONDataParse])
@pytest.mark.parametrize("url", ["", None, "/nowhere/at/all"])
def test_a_missing_file_gives_no_samples(kind, url):
    data = kind("train")
    data.parse(url)
    assert len(data) == 0


@pytest.mark.parametrize("with_pandas", [True, False])
def test_a_table_is_split_at_its_label(tmp_path, monkeypatch, with_pandas):
    if with_pandas:
        pytest.importorskip("pandas")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "t.csv").write_text(CSV)
    data = CSVDataParse("train")
    data.parse(str(tmp_path / "t.csv"), str(tmp_path / "t.csv"), label="label")
    assert np.asarray(data.x).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]
    assert np.asarray(data.y).tolist() == [0, 1, 0, 1]
    data = CSVDataParse("train")
    data.parse(str(tmp_path / "t.csv"), label="label", usecols="b")
    assert np.asarray(data.x).tolist() == [[2], [4]]


@pytest.mark.parametrize(
    "text", ['[{"x": [1], "y": 2}]', '{"x": [1], "y": 2}\n{"x": [3], "y": 4}\n']
)
def test_json_gives_samples(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    data = JSONDataParse("train")
    data.parse(str(tmp_path / "d.json"))
    assert data.x.tolist()[0] == [1]
    assert data.y.tolist()[0] == 2


def test_saving_writes_numbers_only(tmp_path):
    data = BaseDataSource()
    data.x, data.y = [[1.0]], [2]
    data.save(str(tmp_path / "d.npz"))
    assert np.load(tmp_path / "d.npz", allow_pickle=False)["x"].tolist() == [[1.0]]
    data.x = [object()]
    with pytest.raises(ValueError, match="x got objects"):
        data.save(str(tmp_path / "e.npz"))
