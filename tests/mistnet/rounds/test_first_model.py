"""Where the first model comes from: the script, or a pretrained file that is read whole or refused."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.layout import model_key
from fedloom.errors import InvalidJobError

READER = """
    def from_pretrained(self, path):
        import json
        told = json.loads(path.read_text())
        parts = self.initialize(told["seed"])
        parts.tail["output.bias"] += told["bias"]
        return parts

    def examples("""


@pytest.fixture
def pretrained(job):
    """Let the job begin with a file of this name; what is in it is the test's."""

    def begin(name: str):
        job.spec["pretrainedModel"] = {"name": "first"}
        url = {"url": name, "format": name.rpartition(".")[2]}
        metadata = {"name": "first", "namespace": "default"}
        job.extra = [
            {"apiVersion": "sedna.io/v1alpha1", "kind": "Model", "metadata": metadata, "spec": url}
        ]
        return job.folder / name

    return begin


def first_of(job):
    return load_arrays(job.store() / model_key(0))[0]


def test_a_whole_model_is_begun_with(job, pretrained):
    job.run_well()
    trained = (job.folder / "out/model.safetensors").read_bytes()
    pretrained("trained.safetensors").write_bytes(trained)
    job.forget()
    job.run_well()
    assert (job.store() / model_key(0)).read_bytes() == trained


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda arrays: arrays.pop("filters.bias"), "filters.bias"),
        (lambda arrays: arrays.update({"more": np.zeros(2, np.float32)}), "more"),
        (lambda arrays: arrays.update({"output.bias": np.zeros(11, np.float32)}), "output.bias"),
        (lambda arrays: arrays["output.bias"].fill(np.nan), "output.bias"),
    ],
    ids=["missing", "unknown", "shape", "nan"],
)
def test_a_pretrained_file_of_another_layout_is_refused_by_name(job, pretrained, spoil, words):
    job.run_well()
    arrays = load_arrays(job.folder / "out/model.safetensors")[0]
    spoil(arrays)
    pretrained("other.safetensors").write_bytes(dump_arrays(arrays))
    job.forget()
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "NoInitialModel")
    assert words in decision.message


def test_a_missing_pretrained_file_is_refused_before_anything_runs(job, pretrained):
    pretrained("nowhere.pth")
    with pytest.raises(InvalidJobError, match=r"nowhere\.pth does not exist"):
        job.run()


def test_a_file_that_the_model_cannot_read_is_never_silently_left_aside(job, pretrained):
    pretrained("weights.pth").write_bytes(b"no matter what")
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "NoInitialModel")
    assert "Digits.from_pretrained(path)" in decision.message


def test_the_models_own_reader_reads_any_other_format(job, pretrained):
    script = job.folder / "train.py"
    script.write_text(script.read_text().replace("\n    def examples(", READER, 1))
    pretrained("weights.json").write_text('{"seed": 5, "bias": 0.5}')
    job.run_well()
    assert (first_of(job)["output.bias"] == 0.5).all()


def test_parts_that_share_a_name_are_refused(job):
    script = job.folder / "train.py"
    script.write_text(
        script.read_text().replace('"hidden.bias": np.zeros', '"filters.bias": np.zeros')
    )
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "NoInitialModel")
    assert "'filters.bias' in both parts" in decision.message


def test_a_class_that_is_no_split_model_is_told_what_it_lacks(job):
    script = job.folder / "train.py"
    script.write_text(script.read_text().replace("def extract(", "def extracted("))
    decision = job.run()
    assert "Digits has no extract" in decision.message
    assert "SplitModel" in decision.message
