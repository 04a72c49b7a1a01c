"""Models go down as changes: server and clients hold the same bits, and no cache can make them differ."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components import broadcast, receive
from components.request import Place, Request
from fedloom.algorithms.compression.registry import CODECS
from fedloom.artifacts import layout
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.artifact import Artifact
from fedloom.artifacts.local import LocalStore
from fedloom.errors import ArtifactNotFoundError

ROUNDS = 5
JOB = {"namespace": "default", "name": "j", "uid": "0" * 8}


def a_model(number: int) -> dict[str, np.ndarray]:
    """The global model after a round: everything that a model may hold, moving a little."""
    rng = np.random.default_rng(number)
    start = np.random.default_rng(99).normal(size=(60, 41))
    return {
        "big": (start + 0.01 * number * rng.normal(size=start.shape)).astype(np.float32),
        "half": np.linspace(-1, 1 + number, 300).astype(np.float16),
        "still": np.ones(500, np.float32),
        "exact": np.array([1 / 3 + number, 1e300]),
        "count": np.array(2**60 + number, np.int64),
        "fixed": np.arange(40),
        "flag": np.array([number % 2 == 0, True]),
        "none": np.empty((0, 3), np.float32),
    }


class Server:
    """A job's rounds, as far as the way down is concerned."""

    def __init__(self, folder: Path, codec: str, lossless: str = "none", **parameters: object):
        self.store = LocalStore(folder / "store")
        self.folder = folder
        self.codec = {"codec": codec, "parameters": parameters}
        self.first = {"codec": "int8", "parameters": {}}
        self.lossless = lossless
        self.models, self.held, self.changes = [], [], {}
        for number in range(ROUNDS + 1):
            self.end_round(number)

    def end_round(self, number: int, arrays: dict[str, np.ndarray] | None = None) -> None:
        data = dump_arrays(a_model(number) if arrays is None else arrays)
        self.broadcast(number, self.store.put(layout.model_key(number), data))

    def broadcast(self, number: int, model: Artifact) -> None:
        request = Request(
            JOB, number, ROUNDS, 1, "broadcast", None,
            inputs={"broadcast": self.ref(self.held[-1])} if self.held else {},
            outputs={
                "broadcast": layout.state_key("broadcast", number),
                "model-delta": layout.model_delta_key(number),
            },
            settings={
                **(self.codec if number else self.first),
                "lossless": self.lossless,
                "seed": number,
            },
        )  # fmt: skip
        states = broadcast.run(request, self.place("server"), model)
        self.models.append(model)
        self.held.append(states["broadcast"])
        if "model-delta" in states:
            self.changes[number] = states["model-delta"]

    def place(self, name: str) -> Place:
        work = self.folder / name
        work.mkdir(exist_ok=True)
        return Place(self.store, work, work, self.folder / "edge", work, work)

    @staticmethod
    def ref(artifact: Artifact) -> dict[str, str]:
        return {"key": artifact.key, "digest": artifact.digest}

    def request(self, number: int) -> Request:
        """What a client of round `number` + 1 is asked to receive."""
        objects = {"model": self.held[number]} | {
            f"change-{n:04d}": change for n, change in self.changes.items() if n <= number
        }
        settings = {
            **self.codec,
            "first": self.first,
            "model_round": number,
            "changes": [n for n in self.changes if n <= number],
            "sizes": {name: artifact.size_bytes for name, artifact in objects.items()},
        }
        inputs = {name: self.ref(artifact) for name, artifact in objects.items()}
        return Request(JOB, number + 1, ROUNDS, 1, "receive", "c", inputs, {}, settings)

    def receive(self, number: int, oldest: int = 0) -> receive.Received:
        """Let the client receive, when changes since round `oldest` are offered."""
        request = self.request(number)
        offered = [each for each in request.settings["changes"] if each >= oldest]
        request = replace(request, settings={**request.settings, "changes": offered})
        return receive.run(request, self.place("client"))

    @property
    def cache(self) -> Path:
        (path,) = (self.folder / "edge/c/fedloom").iterdir()
        return path


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path, "int8")


def arrays_of(server: Server, artifact: Artifact) -> dict[str, np.ndarray]:
    return load_arrays(server.store.get(artifact.key))[0]


@pytest.mark.parametrize("lossless", ["none", "zstd"])
@pytest.mark.parametrize("codec", sorted(set(CODECS) - {"dgc"}))
def test_every_client_builds_what_the_server_holds(tmp_path, codec, lossless):
    server = Server(tmp_path, codec, lossless)
    assert set(server.changes) or (codec, lossless) == ("none", "none")
    for number in (0, 1, 2, 5):
        received = server.receive(number)
        assert received.path.read_bytes() == server.store.get(server.held[number].key)
        assert received.notice == ""


@pytest.mark.parametrize(
    ("codec", "parameters"), [("int8", {}), ("bf16", {}), ("topk", {"fraction": 0.3})]
)
def test_what_a_codec_loses_is_made_good_by_the_next_changes(tmp_path, codec, parameters):
    server = Server(tmp_path, codec, **parameters)
    for number in range(ROUNDS + 1, ROUNDS + 5):
        server.end_round(number, a_model(ROUNDS))
    for name in ("big", "half"):
        held, model = (arrays_of(server, each[-1])[name] for each in (server.held, server.models))
        np.testing.assert_allclose(held, model, atol=1e-6)


def test_tensors_that_no_codec_takes_are_the_model_s_own(server):
    for number in range(1, ROUNDS + 1):
        held, model = (arrays_of(server, each[number]) for each in (server.held, server.models))
        for name in ("exact", "count", "fixed", "flag", "none", "still"):
            np.testing.assert_array_equal(held[name], model[name], strict=True)
        assert not np.array_equal(held["big"], model["big"])


def test_the_largest_changes_of_all_tensors_come_down(tmp_path):
    server = Server(tmp_path, "topk", fraction=0.05)
    before, after = (arrays_of(server, server.held[number]) for number in (1, 2))
    model = arrays_of(server, server.models[2])
    names = ("big", "half", "still")
    wanted = {n: model[n].astype(np.float32) - before[n].astype(np.float32) for n in names}
    sizes = np.sort(np.concatenate([np.abs(wanted[name]).reshape(-1) for name in names]))
    least = sizes[-round(0.05 * sizes.size)]
    for name in names:
        is_sent = np.abs(wanted[name]) >= least
        np.testing.assert_array_equal(after[name] != before[name], is_sent)


def test_a_tensor_that_did_not_change_costs_nothing(server):
    sizes = [change.size_bytes for number, change in server.changes.items() if number > 1]
    assert (
        max(sizes) < 60 * 41 + 300 + 4 * 12 + 400 + 600
    )  # not the 500 of `still`, the 40 of `fixed`


def test_a_client_that_was_there_fetches_one_change(server):
    server.receive(1)
    received = server.receive(2)
    assert received.downlink_bytes == server.changes[2].size_bytes
    assert received.path == server.cache


def test_a_returning_client_catches_up_through_the_changes_it_missed(tmp_path):
    server = Server(tmp_path, "int4", blockSize=256)
    server.receive(0)
    received = server.receive(5)
    missed = sum(c.size_bytes for number, c in server.changes.items() if number > 0)
    assert received.downlink_bytes == missed < server.held[5].size_bytes


def test_a_new_client_builds_the_model_from_nothing_where_that_is_less(tmp_path):
    server = Server(tmp_path, "stc", fraction=0.02)
    assert server.held[0].digest != server.models[0].digest
    received = server.receive(3)
    assert received.downlink_bytes == sum(server.changes[n].size_bytes for n in range(4))
    assert received.downlink_bytes < server.held[3].size_bytes / 2
    assert received.path.read_bytes() == server.store.get(server.held[3].key)


def test_a_new_client_fetches_the_model_where_not_all_changes_are_offered(server):
    received = server.receive(2, oldest=1)
    assert received.downlink_bytes == server.held[2].size_bytes
    assert received.notice == ""


def test_whole_models_are_fetched_where_changes_would_cost_more(server):
    server.receive(0)
    received = server.receive(5)
    assert sum(c.size_bytes for c in server.changes.values()) > server.held[5].size_bytes
    assert received.downlink_bytes == server.held[5].size_bytes
    assert received.notice == ""


def test_a_client_that_holds_the_model_already_fetches_nothing(server):
    server.receive(3)
    assert server.receive(3).downlink_bytes == 0


def test_a_client_that_is_ahead_comes_back(server):
    """After a damaged round the server goes back; the client's newer model is of no use."""
    server.receive(4)
    received = server.receive(3)
    assert received.path.read_bytes() == server.store.get(server.held[3].key)
    assert server.cache.name.startswith("model-0003")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_cache_costs_bytes_and_never_a_wrong_model(server, damage):
    server.receive(1)
    data = bytearray(server.cache.read_bytes())
    data[-9] ^= 64
    foreign = dump_arrays({"x": np.ones(3, np.float32)})
    server.cache.write_bytes(
        {"cut": data[:-1], "flip": data, "empty": b"", "foreign": foreign}[damage]
    )
    received = server.receive(2)
    assert received.path.read_bytes() == server.store.get(server.held[2].key)
    assert "all of it was fetched" in received.notice
    assert received.downlink_bytes >= server.held[2].size_bytes


def test_a_damaged_cache_of_the_very_model_is_not_used(server):
    server.receive(2)
    server.cache.write_bytes(server.cache.read_bytes()[:-1])
    received = server.receive(2)
    assert received.path.read_bytes() == server.store.get(server.held[2].key)
    assert received.downlink_bytes == server.held[2].size_bytes
    assert "is damaged" in received.notice


def test_a_change_that_is_gone_is_gone_round(server):
    server.receive(1)
    server.store.delete(server.changes[2].key)
    received = server.receive(2)
    assert received.path.read_bytes() == server.store.get(server.held[2].key)
    assert "no artifact under" in received.notice


def test_a_model_that_is_gone_is_an_error(server):
    server.store.delete(server.held[2].key)
    with pytest.raises(ArtifactNotFoundError):
        server.receive(2, oldest=1)


def test_a_change_of_another_codec_is_not_applied(server):
    server.receive(1)
    request = server.request(2)
    request = replace(request, settings={**request.settings, "codec": "int4"})
    received = receive.run(request, server.place("client"))
    assert "got 'int8', expected 'int4'" in received.notice
    assert received.path.read_bytes() == server.store.get(server.held[2].key)


def test_a_small_model_goes_down_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "a_model", lambda number: {"w": np.full(6, number, np.float32)})
    server = Server(tmp_path, "int8")
    assert server.changes == {}
    assert server.held == server.models
    server.receive(0)
    assert server.receive(1).downlink_bytes == server.models[1].size_bytes


def test_a_model_that_no_codec_can_hold_goes_down_as_it_is(tmp_path, monkeypatch):
    big = np.float32(3.3e38)
    monkeypatch.setitem(
        globals(), "a_model", lambda number: {"w": np.full(6000, (-1) ** number * big, np.float32)}
    )
    server = Server(tmp_path, "int8")
    assert server.held[1:] == server.models[1:]


def test_a_broadcast_that_is_run_again_gives_the_same_bytes(tmp_path):
    first, second = (Server(tmp_path / name, "int4") for name in ("a", "b"))
    assert first.held == second.held
    assert first.changes == second.changes
    assert not list((tmp_path / "a/server").iterdir()), "no draft is left"


@pytest.mark.parametrize("codec", ["int8", "stc", "topk"])
def test_memory_does_not_grow_with_the_model(tmp_path, monkeypatch, codec):
    """20 MB of model in tensors of 1 MB: what is held is a few tensors, and parts below a MiB."""

    def large_model(number: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(number)
        return {f"layer.{n:02d}": rng.random(250_000, np.float32) for n in range(20)}

    monkeypatch.setitem(globals(), "a_model", large_model)
    monkeypatch.setitem(globals(), "ROUNDS", 1)
    server = Server(tmp_path, codec, "zstd")
    server.receive(1, oldest=1)
    model = server.store.put(layout.model_key(2), dump_arrays(large_model(2)))
    steps = (lambda: server.broadcast(2, model), lambda: server.receive(2))
    for step in steps:
        tracemalloc.start()
        try:
            step()
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
