"""Networks in files: safetensors and plain state dicts are read, everything else is refused with why."""

from __future__ import annotations

import pytest

from fedloom.errors import ArtifactError, ArtifactNotFoundError, CorruptArtifactError, UpdateError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from detector.checkpoints import (  # noqa: E402  after the question whether torch is here
    read_extractor,
    read_network,
    read_state,
    write_network,
)
from detector.network import Network, Shape, split  # noqa: E402

PICO = Shape("pico", 3, anchor_scale=0.6)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network(PICO).eval()


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_a_network_is_read_back_as_it_was_written(network, tmp_path):
    path = tmp_path / "folder" / "model.safetensors"
    write_network(path, network)
    again = read_network(path)
    assert again.shape == PICO
    assert same(again, network)
    assert not again.training
    assert torch.equal(again.head.anchors, network.head.anchors)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("shape", [Shape("n", 1), Shape("pico", 80, "v5")], ids=str)
def test_which_network_a_file_holds_is_seen_from_its_tensors(shape, tmp_path):
    torch.save(Network(shape).state_dict(), tmp_path / "model.pth")
    assert read_network(tmp_path / "model.pth").shape == shape


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_a_plain_state_dict_is_read(network, tmp_path, is_zip):
    path = tmp_path / "model.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=is_zip)
    assert same(read_network(path, anchor_scale=0.6), network)


def test_the_name_of_a_file_does_not_say_what_it_is(network, tmp_path):
    write_network(tmp_path / "model.pth", network)
    assert same(read_network(tmp_path / "model.pth"), network)


def refused(path):
    with pytest.raises(ArtifactError) as error:
        read_state(path)
    assert str(path) in error.value.message
    return error.value


def test_a_pickled_module_is_refused_and_none_of_its_code_runs(network, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": network, "epoch": 3}, path)
    error = refused(path)
    assert error.reason == "UnsupportedCheckpoint"
    assert "code besides tensors" in error.message
    assert "expected a state dict" in error.message


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ([torch.zeros(2)], "got a list"),
        ({}, "got a dict"),
        ({"model": {"weight": torch.zeros(2)}}, "'model': a dict"),
        ({"epoch": 3}, "'epoch': a int"),
        ({0: torch.zeros(2)}, "0: a Tensor"),
        ({"weight": torch.zeros(2, dtype=torch.bfloat16)}, "bfloat16"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path, content, got):
    torch.save(content, tmp_path / "model.pth")
    error = refused(tmp_path / "model.pth")
    assert error.reason == "UnsupportedCheckpoint"
    assert got in error.message


def test_broken_files_are_refused(network, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    assert refused(path).reason == "UnsupportedCheckpoint"
    write_network(path, network)
    path.write_bytes(path.read_bytes()[:-1])
    assert isinstance(refused(path), CorruptArtifactError)
    path.write_bytes(b"no model at all")
    assert isinstance(refused(path), CorruptArtifactError)
    path.write_bytes(b"")
    assert isinstance(refused(path), CorruptArtifactError)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactNotFoundError, match=r"nothing\.pth"):
        read_network(tmp_path / "nothing.pth")


def test_a_file_of_another_network_is_refused(network, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(UpdateError, match=r"got 2 tensors \(bias, weight") as error:
        read_network(path)
    assert error.value.reason == "UnknownNetwork"
    state = network.state_dict()
    torch.save({**state, "layers.9.more": torch.zeros(1)}, path)
    with pytest.raises(UpdateError, match=r"layers\.9\.more") as error:
        read_network(path)
    assert error.value.reason == "UnexpectedTensor"
    state["layers.1.conv.weight"] = torch.zeros(24, 8, 3, 3)
    torch.save(state, path)
    with pytest.raises(UpdateError, match="got 24 channels"):
        read_network(path)


def test_an_extractor_is_read_from_its_own_file_or_from_a_whole_network(network, tmp_path):
    extractor, _ = split(network, 4)
    write_network(tmp_path / "extractor.safetensors", extractor)
    write_network(tmp_path / "whole.safetensors", network)
    for name in ("extractor", "whole"):
        assert same(read_extractor(tmp_path / f"{name}.safetensors", PICO, 4), extractor)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("extractor", "whole")]
    assert sizes[0] < sizes[1] / 20
    with pytest.raises(UpdateError) as error:
        read_extractor(tmp_path / "extractor.safetensors", PICO, 5)
    assert error.value.reason == "MissingTensor"
    with pytest.raises(UpdateError) as error:
        read_extractor(tmp_path / "whole.safetensors", Shape("n", 3), 4)
    assert error.value.reason == "ShapeMismatch"
