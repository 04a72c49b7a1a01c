"""A release from an edge's images to the cloud's features: what it holds, keeps to itself, refuses."""

from __future__ import annotations

import json
import math
import shutil
import traceback
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloom.algorithms.mistnet.bits import unpack_bits
from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import digest_of_file
from fedloom.artifacts.pooled_releases import Expected, PooledReleases, open_release
from fedloom.artifacts.releases import Release, ReleaseWriter
from fedloom.errors import CorruptArtifactError, DataError, JobError, UpdateError
from fedloom.training.feature_release import ReleaseOrder, release_features
from fedloom.training.split import extractor_digest

SRR = RandomizedResponse(1)


class Edge:
    """One edge: its state, its images, and where its releases go."""

    def __init__(self, folder: Path, model, dataset: str, name: str = "edge-a") -> None:
        self.folder, self.model, self.dataset, self.name = folder / name, model, dataset, name
        self.extractor = model.initialize(0).extractor
        self.path = self.folder / "release.safetensors"

    def release(self, mechanism=SRR, max_epsilon=math.inf):
        state = self.folder / "state"
        order = ReleaseOrder(self.name, self.dataset, mechanism, max_epsilon, state)
        return release_features(self.model, self.extractor, order, self.path)

    @property
    def journal(self) -> Path:
        return self.folder / "state" / f"release-{self.name}.log"

    @property
    def expected(self) -> Expected:
        digest = extractor_digest(self.model, self.extractor)
        return Expected(digest, self.model.shape, 1, SRR.flips)


@pytest.fixture
def edge(tmp_path, model, digits):
    return Edge(tmp_path, model, digits("images", 0, 20))


def test_a_release_says_what_it_is(edge):
    released = edge.release()
    assert released.digest == digest_of_file(edge.path)
    assert released.size_bytes == edge.path.stat().st_size
    with Release(edge.path) as release:
        assert release.manifest == released.manifest
        release.check()
    document = released.manifest.document()
    assert document["mechanism"] == "srr-v1"
    assert document["shape"] == [32, 4, 4]
    assert document["r"] == 512
    assert (document["epsilon"], document["convention"]) == (1, "paper")
    assert (document["eps_bit"], document["eps_bit_plato_sue"]) == (1, 2)
    assert document["p"] == pytest.approx(0.7310586)
    assert (document["eps_image"], document["eps_total"]) == (512, 512)
    assert document["images"] == 20
    assert document["labels"] == {"form": "plaintext", "count": 20, "columns": 1}
    assert document["mean_image_bytes"] == 64


def test_a_retry_gives_identical_bytes_and_costs_nothing(edge):
    first = edge.release(max_epsilon=512)
    content = edge.path.read_bytes()
    again = edge.release(max_epsilon=512)
    assert edge.path.read_bytes() == content
    assert (first.spending.charged, again.spending.charged) == (20, 0)
    assert again.spending.repeated == 20


def test_another_epsilon_is_another_release_that_the_ledger_counts(edge):
    edge.release()
    with pytest.raises(JobError, match="spent 512, this release 1024"):
        edge.release(RandomizedResponse(2), max_epsilon=1000)
    assert edge.release(RandomizedResponse(2)).manifest.total_epsilon == 1536


def test_a_refused_release_leaves_no_file(edge):
    with pytest.raises(JobError, match="would pass their budget"):
        edge.release(max_epsilon=1)
    assert not edge.path.exists()


def test_an_edge_that_lost_its_key_pays_again(edge):
    edge.release()
    content = edge.path.read_bytes()
    (edge.folder / "state" / "noise-key").unlink()
    assert edge.release().manifest.total_epsilon == 1024
    assert edge.path.read_bytes() != content


def test_it_tells_neither_key_nor_image_nor_name(edge):
    edge.release()
    content = edge.path.read_bytes()
    secret = (edge.folder / "state" / "noise-key").read_bytes()
    for path in Path(edge.dataset).iterdir():
        assert path.stem.encode() not in content
        assert path.read_bytes()[8:24] not in content
    for example in edge.model.examples(edge.dataset):
        digest = example.digest.removeprefix("sha256:")
        assert digest.encode() not in content
        assert bytes.fromhex(digest)[:8] not in content
    for form in (secret, secret.hex().encode(), secret[:8]):
        assert form not in content


def test_its_bits_are_the_images_under_noise(edge):
    """Without noise they are the clean bits; with it, about q of them are turned, of each image."""
    clean = {}
    for example in edge.model.examples(edge.dataset):
        features = edge.model.extract(edge.extractor, edge.model.load(example))
        clean[(features > 0).tobytes()] = edge.model.labels(example)[0, 0]
    edge.release(RandomizedResponse(100))
    with Release(edge.path) as release:
        for index in range(len(release)):
            bits, labels = release.read(index)
            assert labels.tolist() == [[clean[(bits > 0).tobytes()]]]
    edge.release()
    with Release(edge.path) as release:
        kept = [np.frombuffer(each, np.bool_) for each in clean]
        for index in range(len(release)):
            noisy = unpack_bits(release.packed(index), 512)
            least = min(np.mean(noisy != each) for each in kept)
            assert abs(least - SRR.q) < 5 * math.sqrt(SRR.p * SRR.q / 512)


def test_two_edges_with_the_same_images_release_them_under_independent_noise(edge, tmp_path):
    other = Edge(tmp_path, edge.model, edge.dataset, "edge-b")
    edge.release()
    other.release()
    both = [load_arrays(each.path)[0] for each in (edge, other)]
    assert not set(map(bytes, both[0]["ids"])) & set(map(bytes, both[1]["ids"]))
    agreements = np.mean(np.unpackbits(both[0]["bits"]) == np.unpackbits(both[1]["bits"]))
    assert agreements < 0.75


def test_copies_of_an_image_are_released_once(edge):
    folder = Path(edge.dataset)
    first = sorted(folder.iterdir())[0]
    for number in (9000, 9001):
        shutil.copy(first, folder / f"{number}-{first.stem.split('-')[1]}.raw")
    manifest = edge.release().manifest
    assert (manifest.images, manifest.duplicates) == (20, 2)


def test_images_that_cannot_be_read_are_left_out_and_counted(edge):
    (Path(edge.dataset) / "9000-1.raw").write_bytes(b"short")
    released = edge.release()
    assert (released.manifest.images, released.manifest.dropped) == (20, 1)
    assert released.faults == {"BadExample": 1}
    assert b"9000" not in edge.path.read_bytes()
    told = edge.journal.read_text()
    assert "9000-1.raw: BadExample: got 5 bytes, expected 64" in told
    assert edge.journal.stat().st_mode & 0o777 == 0o600
    (Path(edge.dataset) / "9000-1.raw").unlink()
    edge.release()
    assert edge.journal.read_text() == "", "it is of the last release"


def test_an_edge_without_images_is_refused_by_name(edge):
    for path in Path(edge.dataset).iterdir():
        path.unlink()
    with pytest.raises(UpdateError, match="edge 'edge-a': got no image"):
        edge.release()
    (Path(edge.dataset) / "9000-1.raw").write_bytes(b"short")
    with pytest.raises(
        UpdateError, match=r"none of 1 images can be used \(1 BadExample\)"
    ) as error:
        edge.release()
    assert "9000" not in error.value.message
    assert edge.journal.name in error.value.message


@pytest.mark.parametrize("method", ["examples", "labels", "load", "extract"])
@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (ValueError("patient 7 cannot be read"), "ScriptFailed"),
        (DataError("NoSuchSplit", "patient 7 is in no split"), "NoSuchSplit"),
        (SystemExit("patient 7"), "ScriptFailed"),
    ],
    ids=["any error", "an error with a reason", "the end of the process"],
)
def test_what_a_models_error_says_of_an_image_stays_on_the_edge(
    edge, monkeypatch, method, raised, reason
):
    def fail(*_):
        raise raised

    monkeypatch.setattr(edge.model, method, fail)
    with pytest.raises(UpdateError) as error:
        edge.release()
    assert error.value.reason == reason
    assert f"{type(raised).__name__} in test_releases.py line" in error.value.message
    assert "patient" not in "".join(traceback.format_exception(error.value))
    assert "patient 7" in edge.journal.read_text()


def test_no_memory_left_is_told_as_that(edge, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(edge.model, "load", fail)
    with pytest.raises(MemoryError):
        edge.release()


def test_a_release_tells_whether_it_is_of_the_training_split_or_of_all_there_is(edge, monkeypatch):
    assert edge.release().manifest.taken == "all"
    found = edge.model.examples(edge.dataset)
    split = [replace(each, split="train") for each in found]
    monkeypatch.setattr(edge.model, "examples", lambda dataset, purpose: split)
    assert edge.release().manifest.taken == "train"
    with Release(edge.path) as release:
        assert release.manifest.document()["taken"] == "train"


def test_an_extractor_that_gives_nothing_finite_is_refused(edge):
    edge.extractor["bias"][0] = np.nan
    with pytest.raises(UpdateError, match="NaN or infinite"):
        edge.release()
    assert not edge.path.exists()


def test_a_dead_extractor_is_refused(edge):
    edge.extractor["bias"][:] = -1000
    with pytest.raises(UpdateError, match="got 0 ones in 10240 bits"):
        edge.release(RandomizedResponse(100))


def test_cut_and_arrays_decide_the_extractors_digest(model):
    extractor = model.initialize(0).extractor
    digests = {extractor_digest(model, extractor), extractor_digest(type(model)(cut=2), extractor)}
    digests.add(extractor_digest(model, model.initialize(1).extractor))
    assert len(digests) == 3
    assert extractor_digest(type(model)(), dict(extractor)) in digests


def test_a_checked_release_is_opened(edge):
    digest = edge.release().digest
    with open_release(edge.path, digest, "edge-a", edge.expected) as release:
        assert len(release) == 20


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extractor": "sha256:" + "0" * 64}, "OtherExtractor"),
        ({"shape": (32, 16)}, "WrongShape"),
        ({"label_columns": 5}, "WrongLabels"),
        ({"flips": RandomizedResponse(2).flips}, "OtherEpsilon"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_release_other_than_expected_is_refused(edge, change, reason):
    digest = edge.release().digest
    with pytest.raises(UpdateError, match="edge 'edge-a': got") as refused:
        open_release(edge.path, digest, "edge-a", replace(edge.expected, **change))
    assert refused.value.reason == reason


def test_another_digest_or_another_edges_release_is_refused(edge):
    digest = edge.release().digest
    with pytest.raises(CorruptArtifactError, match="got sha256"):
        open_release(edge.path, "sha256:" + "0" * 64, "edge-a", edge.expected)
    with pytest.raises(UpdateError, match="expected 'edge-b'"):
        open_release(edge.path, digest, "edge-b", edge.expected)


def tampered(edge, change):
    """Change a release's tensors and manifest as somebody might, and open it under its new digest."""
    edge.release()
    arrays, metadata = load_arrays(edge.path)
    document = json.loads(metadata["fedloom.release"])
    change(arrays, document)
    edge.path.write_bytes(dump_arrays(arrays, {"fedloom.release": json.dumps(document)}))
    open_release(edge.path, digest_of_file(edge.path), "edge-a", edge.expected).close()


def test_a_release_made_again_as_it_was_is_taken(edge):
    tampered(edge, lambda arrays, document: None)


def _set(array, value):
    array[...] = value


TAMPERING = {
    "more noise is claimed than there is": (lambda a, d: d.update(p=0.6), "WrongManifest"),
    "the epsilon is not a number": (lambda a, d: d.update(epsilon=math.nan), "WrongManifest"),
    "the epsilon is text": (lambda a, d: d.update(epsilon="1"), "WrongManifest"),
    "a field is missing": (lambda a, d: d.pop("eps_image"), "WrongManifest"),
    "labels are said to be no plaintext": (
        lambda a, d: d["labels"].update(form="private"),
        "WrongManifest",
    ),
    "the images are negative": (lambda a, d: d.update(images=-1), "WrongManifest"),
    "an image is counted too many": (
        lambda a, d: d.update(images=21, fraction_of_ones=d["ones"] / (21 * 512)),
        "WrongShape",
    ),
    "a tensor too many": (lambda a, d: a.update(more=np.zeros(3)), "WrongShape"),
    "other bits than counted": (lambda a, d: _set(a["bits"][0], 0), "WrongFraction"),
    "labels out of order": (lambda a, d: _set(a["label_ends"][3:4], 1), "WrongLabels"),
    "labels beyond the end": (lambda a, d: _set(a["label_ends"][-1:], 99), "WrongLabels"),
    "a label is not a number": (lambda a, d: _set(a["labels"][0], np.nan), "WrongLabels"),
    "an image twice": (lambda a, d: _set(a["ids"][1], a["ids"][0]), "DuplicateImage"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_a_release_that_says_what_is_not_so_is_refused(edge, name):
    change, reason = TAMPERING[name]
    with pytest.raises(UpdateError) as refused:
        tampered(edge, change)
    assert refused.value.reason == reason


def test_bits_without_the_noise_they_claim_are_refused(edge):
    """All ones with their count put right: between q and p is where a fraction has to lie."""

    def change(arrays, document):
        arrays["bits"][...] = 255
        document.update(ones=20 * 512, fraction_of_ones=1.0)

    with pytest.raises(UpdateError, match=r"expected one between 0\.2\d+ and 0\.7\d+"):
        tampered(edge, change)


def test_a_file_without_a_manifest_is_refused(edge):
    edge.path.parent.mkdir(parents=True)
    edge.path.write_bytes(dump_arrays({"bits": np.zeros(3, np.uint8)}))
    with pytest.raises(CorruptArtifactError, match="no manifest"):
        Release(edge.path)


def test_releases_of_several_edges_are_one_row_of_images(edge, tmp_path, digits):
    other = Edge(tmp_path, edge.model, digits("more", 20, 7), "edge-b")
    edge.release()
    other.release(RandomizedResponse(2))
    with PooledReleases([Release(other.path), Release(edge.path)]) as pool:
        assert len(pool) == 27
        assert pool.counts == {"edge-a": 20, "edge-b": 7}
        with Release(edge.path) as first, Release(other.path) as second:
            assert (pool.read(19)[0] == first.read(19)[0]).all()
            assert (pool.read(20)[0] == second.read(0)[0]).all()
            assert (pool.read(26)[1] == second.read(6)[1]).all()
        assert len(np.unique(pool.read(0)[0])) == len(np.unique(pool.read(20)[0])) == 2
        for index in (-1, 27):
            with pytest.raises(IndexError):
                pool.read(index)


def test_releases_that_do_not_belong_together_are_refused(edge, tmp_path, digits):
    edge.release()
    with pytest.raises(UpdateError, match="got two releases"):
        PooledReleases([Release(edge.path), Release(edge.path)])
    other = Edge(tmp_path, edge.model, digits("more", 20, 7), "edge-b")
    other.extractor = edge.model.initialize(1).extractor
    other.release()
    with pytest.raises(UpdateError, match="got an extractor"):
        PooledReleases([Release(edge.path), Release(other.path)])
    with pytest.raises(JobError, match="no release"):
        PooledReleases([])


def test_a_copied_key_is_noticed(edge, tmp_path):
    edge.release()
    other = Edge(tmp_path, edge.model, edge.dataset, "edge-b")
    shutil.copytree(edge.folder / "state", other.folder / "state")
    other.release()
    with pytest.raises(UpdateError, match="under the same key"):
        PooledReleases([Release(edge.path), Release(other.path)])


def test_bits_that_do_not_fill_their_last_byte_come_back(tmp_path):
    rng = np.random.default_rng(0)
    path, bits = tmp_path / "r.safetensors", rng.random((3, 3, 5, 7)) < 0.5
    mechanism = RandomizedResponse(100)
    with ReleaseWriter(path, (3, 5, 7), 5) as writer:
        for index, each in enumerate(bits):
            labels = rng.random((index, 5)).astype(np.float32)
            writer.add(bytes([index + 1] * 16), np.packbits(each), labels)
        writer.finish(manifest_of(writer, (3, 5, 7), mechanism))
    with Release(path) as release:
        release.check()
        for index, each in enumerate(bits):
            features, labels = release.read(index)
            assert (features == each).all()
            assert labels.shape == (index, 5)


def manifest_of(writer, shape, mechanism):
    return ReleaseManifest(
        edge="a",
        extractor="sha256:" + "0" * 64,
        shape=shape,
        mechanism=mechanism,
        images=writer.images,
        ones=writer.ones,
        labels=writer.labels,
        label_columns=5,
        duplicates=0,
        dropped=0,
        total_epsilon=1.0,
        mean_image_bytes=100.0,
    )


def test_memory_is_flat_in_the_number_of_images(tmp_path):
    """Writing, checking and reading hold one image and a block of 1 MiB: 600 take what 150 do."""
    peaks = []
    for count in (150, 600):
        path = tmp_path / f"{count}.safetensors"
        tracemalloc.start()
        with ReleaseWriter(path, (64, 32, 32), 5) as writer:
            for index in range(count):
                bits = np.full(8192, 0x55 + index % 2, np.uint8)
                labels = np.zeros((7, 5), np.float32)
                writer.add(index.to_bytes(15, "big") + b"x", bits, labels)
            writer.finish(manifest_of(writer, (64, 32, 32), RandomizedResponse(2)))
        with Release(path) as release:
            release.check()
            for index in range(count):
                release.read(index)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000


def test_a_detectors_release_is_its_bits_and_one_percent(tmp_path):
    path = tmp_path / "r.safetensors"
    with ReleaseWriter(path, (64, 80, 80), 5) as writer:
        for index in range(12):
            bits = np.full(51_200, 0x55, np.uint8)
            writer.add(bytes([index + 1] * 16), bits, np.zeros((8, 5), np.float32))
        size_bytes, _ = writer.finish(manifest_of(writer, (64, 80, 80), RandomizedResponse(1)))
    assert size_bytes / 12 <= 51_200 * 1.01
