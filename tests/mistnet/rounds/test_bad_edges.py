"""An edge that does something else is named and left out; too few of them end the job with the reason."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components import collect
from components.request import Place, Request
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.api.documents import read_documents
from fedloom.api.lookup import datasets_of, models_of
from fedloom.api.validation import job_to_run
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.local import LocalStore
from fedloom.training.context import Client
from fedloom.training.feature_release import ReleaseOrder, release_features
from fedloom.training.script import received_by
from fedloom.training.split_parts import dump_extractor, joined, load_extractor
from pipelines.rounds import RoundPlanner
from pipelines.start import Start

PARAMETERS = {"epochs": 1, "batchSize": 16, "learningRate": 0.01, "cutLayer": 1}


def failures(result):
    return {
        name: (client["reason"], client["message"])
        for name, client in result["clients"].items()
        if client["state"] == "Failed"
    }


def corrupt(path: Path) -> None:
    path.write_bytes(b"GIF89a" + path.name.encode())


def hide(path: Path) -> None:
    path.rename(path.with_suffix(".txt"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(corrupt, "none of 40 images can be used (40 BadExample)"), (hide, "got no image in")],
    ids=["every image corrupt", "no image"],
)
def test_an_edge_without_usable_images_is_left_out_by_name(job, spoil, words):
    job.spec["participation"]["minClients"] = 2
    for path in sorted((job.folder / "b").iterdir()):
        spoil(path)
    result = job.run_well()
    ((name, (reason, message)),) = failures(result).items()
    assert (name, reason) == ("b", "NoExamples")
    assert words in message
    assert job.report()["dropped_clients"] == {"b": "NoExamples"}
    assert job.report()["images"] == 80
    for path in job.store().rglob("*"):  # all that left an edge lies here
        assert not path.is_file() or b".pgm" not in path.read_bytes(), path
    assert not any(".pgm" in json.dumps(event) for event in job.events)


def test_single_bad_images_and_copies_are_left_out_and_counted(job):
    paths = sorted((job.folder / "a").iterdir())
    paths[0].write_bytes(b"P5 1 1 255\n\x00")
    shutil.copy(paths[1], paths[1].with_name(paths[1].name.replace("0001", "9001")))
    result = job.run_well()
    assert result["clients"]["a"]["num_examples"] == 39
    assert "1 copies and 1 images" in result["clients"]["a"]["message"]
    assert paths[0].name not in json.dumps(job.report()), "which images they are stays on the edge"


def test_an_edge_whose_script_makes_other_features_is_left_out(job):
    text = (job.folder / "train.py").read_text()
    other = text.replace('"size": [SIDE, SIDE]', '"size": [9, 9]')
    (job.folder / "other.py").write_text(other)
    job.spec["trainingWorkers"][2]["template"]["spec"]["containers"][0]["command"][1] = "other.py"
    job.spec["participation"]["minClients"] = 2
    ((name, (reason, message)),) = failures(job.run_well()).items()
    assert (name, reason) == ("c", "OtherExtractor")
    assert "[9, 9]" in message


def test_too_few_good_edges_end_the_job_with_every_reason(job):
    shutil.rmtree(job.folder / "b")
    (job.folder / "b").mkdir()
    (job.folder / "b/notes.txt").write_text("nothing to see")
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "TooFewClients")
    assert "b: NoExamples (edge 'b'" in decision.message


def test_a_cut_that_the_model_cannot_have_is_refused_with_the_models_reason(job):
    job.parameters["cutLayer"] = 6
    decision = job.run()
    assert (decision.phase, decision.reason) == ("Failed", "NoInitialModel")
    assert "cutLayer: got 6, expected 1" in decision.message


class Cloud:
    """The cloud's side of a round, with releases that a test makes itself."""

    def __init__(self, job):
        received = []
        source = compile((job.folder / "train.py").read_text(), "train.py", "exec")
        with received_by(received.append):
            exec(source, {"__name__": "__main__"})
        client = Client("x", "", PARAMETERS, job.folder, 0)
        self.model = received[0](client)
        self.folder, self.store = job.folder, LocalStore(job.folder / "store")
        parts = self.model.initialize(1)
        self.extractor = parts.extractor
        whole = self.store.put("state/model.safetensors", dump_arrays(joined(parts)))
        extractor = self.store.put(
            "state/extractor.safetensors", dump_extractor(self.model, parts.extractor)
        )
        documents = read_documents([job.write()])
        run = job_to_run(documents)
        named = [{"key": a.key, "digest": a.digest, "size_bytes": 1} for a in (whole, extractor)]
        start = Start(1, 1, ("a", "b", "c"), 0.0, named[0], {"extractor": named[1]})
        found = datasets_of(documents, run), models_of(documents, run)
        plan = RoundPlanner(run, *found).plan(start)
        self.plan = json.loads(plan.to_json())

    def request(self, step: str) -> Request:
        (task,) = [task for task in self.plan["tasks"] if task["step"] == step]
        return Request.of(self.plan, task)

    def release(self, edge: str, node: str = "", **changes) -> Path:
        """Make an edge's release as the job has it, but for `changes` of the order."""
        order = ReleaseOrder(
            edge,
            str(self.folder / edge),
            RandomizedResponse(2),
            float("inf"),
            self.folder / "nodes",
        )
        order = replace(order, state=self.folder / "nodes" / (node or edge))
        target = self.folder / f"release-{edge}.safetensors"
        release_features(self.model, self.extractor, replace(order, **changes), target)
        return target

    def send(self, edge: str, path: Path, digest: str = "") -> None:
        """Store a release and a report of it, as any client of the store could."""
        key = f"round-0001/updates/{edge}/1"
        stored = self.store.put_file(f"{key}/update.safetensors", path)
        report = {
            "num_examples": 40,
            "num_steps": None,
            "metrics": {},
            "uplink_bytes": stored.size_bytes,
            "update": {"key": stored.key, "digest": digest or stored.digest},
        }
        self.store.put(f"{key}/report.json", json.dumps(report).encode())

    def collect(self):
        work = self.folder / "work"
        place = Place(self.store, work, work, work, self.folder, work)
        return collect.run(self.request("collect"), place, {})


@pytest.fixture
def cloud(job) -> Cloud:
    return Cloud(job)


def test_good_releases_are_collected_with_the_manifests_that_were_looked_at(cloud):
    for edge in "abc":
        cloud.send(edge, cloud.release(edge))
    found = cloud.collect()
    assert sorted(found.reports) == ["a", "b", "c"]
    assert found.reports["a"]["release"]["edge"] == "a"
    assert not found.failures


def test_a_release_of_another_edge_is_refused(cloud):
    cloud.send("a", cloud.release("a"))
    cloud.send("b", cloud.release("a"))
    found = cloud.collect()
    assert found.failures["b"]["reason"] == "OtherEdge"
    assert found.failures["c"]["reason"] == "NoUpdate"
    assert list(found.reports) == ["a"]


def test_an_edge_that_answers_twice_under_two_names_counts_once(cloud):
    cloud.send("a", cloud.release("a"))
    cloud.send("b", cloud.release("b", node="a", dataset=str(cloud.folder / "a")))
    found = cloud.collect()
    assert list(found.reports) == ["a"]
    assert found.failures["b"]["reason"] == "DuplicateRelease"
    assert "'a'" in found.failures["b"]["message"]


def test_a_release_under_another_epsilon_is_refused(cloud):
    cloud.send("a", cloud.release("a", mechanism=RandomizedResponse(3)))
    assert cloud.collect().failures["a"]["reason"] == "OtherEpsilon"


def test_a_release_of_another_extractor_is_refused(cloud):
    cloud.extractor = {name: array + 1 for name, array in cloud.extractor.items()}
    cloud.send("a", cloud.release("a"))
    assert cloud.collect().failures["a"]["reason"] == "OtherExtractor"


def test_a_release_with_another_digest_than_reported_is_refused(cloud):
    cloud.send("a", cloud.release("a"), digest="sha256:" + "0" * 64)
    reason = cloud.collect().failures["a"]["reason"]
    assert reason in ("CorruptArtifact", "DigestMismatch"), reason


def test_a_release_whose_bits_were_turned_on_the_way_is_refused(cloud):
    path = cloud.release("a")
    arrays, metadata = load_arrays(path)
    arrays["bits"][:] = 0xFF
    path.write_bytes(dump_arrays(arrays, metadata))
    cloud.send("a", path)
    assert cloud.collect().failures["a"]["reason"] == "WrongFraction"


def test_a_release_of_another_shape_is_refused(cloud):
    path = cloud.release("a")
    arrays, metadata = load_arrays(path)
    arrays["bits"] = np.ascontiguousarray(arrays["bits"][:, :-1])
    path.write_bytes(dump_arrays(arrays, metadata))
    cloud.send("a", path)
    assert cloud.collect().failures["a"]["reason"] == "WrongShape"


def test_a_model_is_no_release(cloud):
    cloud.send("a", cloud.store.materialize("state/model.safetensors", cloud.folder / "x"))
    assert cloud.collect().failures["a"]["reason"] == "CorruptArtifact"


def test_the_extractors_file_says_what_releases_are_checked_against(cloud):
    path = cloud.store.materialize("state/extractor.safetensors", cloud.folder / "x")
    arrays, facts = load_extractor(path)
    assert arrays.keys() == cloud.extractor.keys()
    assert facts.shape == (24, 8, 8)
    assert facts.label_columns == 1
