"""The whole way with a classifier: edges release, the cloud trains a tail, attacks are measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedloom.algorithms.mistnet.disclosure import privacy_report
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.artifacts.pooled_releases import PooledReleases
from fedloom.artifacts.releases import Release
from fedloom.errors import JobError
from fedloom.training.context import Round
from fedloom.training.feature_release import ReleaseOrder, release_features
from fedloom.training.leakage import LeakageMeasurement, noise_of
from fedloom.training.noise_key import noise_key
from fedloom.training.split import Example, ExtractedFeatures, extractor_digest

CLEAN = RandomizedResponse(math.inf)
ROUND = Round(number=1, total=1, seed=7)


@pytest.fixture
def learn(tmp_path, model, digits):
    """Train on what edges release under an epsilon; give the accuracy on held-out images."""
    datasets = {"a": digits("a", 0, 300), "b": digits("b", 300, 300)}
    held_out = model.examples(digits("test", 1200, 300))
    parts = model.initialize(0)

    def run(epsilon: float, edges: str = "ab") -> float:
        mechanism, releases = RandomizedResponse(epsilon), []
        for name in edges:
            order = ReleaseOrder(name, datasets[name], mechanism, math.inf, tmp_path / f"s{name}")
            path = tmp_path / f"{name}-{epsilon}.safetensors"
            release_features(model, parts.extractor, order, path)
            releases.append(Release(path))
        with PooledReleases(releases) as pool:
            tail = model.train(parts.tail, pool, ROUND).model
        deployed = ExtractedFeatures(model, parts.extractor, held_out, CLEAN)
        return model.evaluate(tail, deployed).metrics["accuracy"]

    return run


def test_a_classifier_learns_from_bits_and_the_less_the_more_noise_there_is(learn):
    bits, weak, strong = learn(100), learn(2), learn(0.1)
    assert bits > 0.85
    assert bits >= weak > strong
    assert weak > 0.7
    assert strong < 0.6


def test_two_edges_teach_more_than_one(learn):
    assert learn(1) > learn(1, "a")


def test_the_deployed_path_can_have_noise_too(tmp_path, model, digits):
    parts, examples = model.initialize(0), model.examples(digits("few", 0, 5))
    mechanism, key = RandomizedResponse(1), noise_key(tmp_path / "state")
    digest = extractor_digest(model, parts.extractor)

    noise = noise_of(key, digest, model.shape, mechanism)
    noisy = ExtractedFeatures(model, parts.extractor, examples, mechanism, noise)
    clean = ExtractedFeatures(model, parts.extractor, examples, CLEAN)
    assert len(noisy) == 5
    turned = np.mean([(noisy.read(i)[0] > 0) != (clean.read(i)[0] > 0) for i in range(5)])
    assert abs(turned - mechanism.q) < 5 * math.sqrt(mechanism.p * mechanism.q / (5 * 512))
    with pytest.raises(ValueError, match="expected a source"):
        ExtractedFeatures(model, parts.extractor, examples, mechanism)


def test_the_leakage_of_a_job_is_measured_and_reported(tmp_path, model, digits):
    parts, private = model.initialize(0), digits("private", 0, 60)
    order = ReleaseOrder("a", private, RandomizedResponse(2), math.inf, tmp_path / "state")
    released = release_features(model, parts.extractor, order, tmp_path / "r.safetensors")
    victims = [*model.examples(digits("victims", 900, 60)), broken(tmp_path)]
    public = model.examples(digits("public", 600, 200))
    recovered = []
    for epsilon in (100, 2, 0.1):
        measured = LeakageMeasurement(model, parts.extractor, RandomizedResponse(epsilon), seed=3)
        recovered.append(measured.invert(public, victims).variance_recovered)
        if epsilon == 2:
            linked, inverted = measured.link(victims), measured.invert(public, victims)
    assert recovered[0] > 0.5
    assert recovered[0] > recovered[1] > recovered[2]
    assert (linked.releases, inverted.images) == (60, 60)
    assert linked.top1 > 0.9
    again = LeakageMeasurement(model, parts.extractor, RandomizedResponse(2), seed=3)
    assert (again.link(victims), again.invert(public, victims)) == (linked, inverted)
    report = privacy_report([released.manifest], linked, inverted)
    assert any("can tell that it was released" in each for each in report["warnings"])
    assert any("linear attack recovers" in each for each in report["warnings"])


def broken(folder):
    (folder / "9000-1.raw").write_bytes(b"short")
    return Example(str(folder / "9000-1.raw"), "sha256:" + "9" * 64, 5)


def test_without_a_victim_nothing_is_measured(tmp_path, model):
    measured = LeakageMeasurement(model, model.initialize(0).extractor, CLEAN, seed=3)
    with pytest.raises(JobError, match="no victim"):
        measured.link([broken(tmp_path)])
