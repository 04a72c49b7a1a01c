"""The steps of secure aggregation by themselves: who may drop out when, and what is refused by name."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components import advertise, exchange, masking, reveal, roster, share, survivors, unmask
from components.client_secrets import ClientSecrets
from components.request import Place, Request
from components.session import session_of
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.privacy.integer_grid import GridLayout, GridRule, fit_update
from fedloom.artifacts.arrays import dump_arrays, load_arrays
from fedloom.artifacts.local import LocalStore
from fedloom.errors import ArtifactError, FedloomError, JobError, UpdateError
from pipelines.plan import Placement, Plan, Task
from pipelines.secure_tasks import SecureTasks
from pipelines.start import Start

EDGE, CLOUD = Placement("edge"), Placement("cloud")
MODEL = {
    "w": np.zeros((40, 3), np.float32),
    "deep": np.zeros(7, np.float64),
    "steps": np.array(5, np.int64),
}


@dataclass
class _Privacy:
    clip_norm: float | None = None
    max_value: float | None = 4.0
    noise_multiplier: float | None = None


@dataclass
class Attempt:
    """One attempt of one round with `n` clients, run step by step."""

    folder: Path
    clients: tuple[str, ...]
    attempt: int = 1
    codec: str = "none"
    privacy: _Privacy = field(default_factory=_Privacy)

    def __post_init__(self) -> None:
        self.store = LocalStore(self.folder / "store")
        self.place = Place(
            self.store, *(self.folder / name for name in ("work", "memory", "edge", "base", "logs"))
        )
        self.place.work.mkdir(exist_ok=True)
        model = self.store.put("round-0000/model.safetensors", dump_arrays(MODEL))
        reference = {"key": model.key, "digest": model.digest, "size_bytes": model.size_bytes}
        start = Start(1, self.attempt, self.clients, 0.0, model=reference)
        tasks = SecureTasks(self._spec()).around(start, list(self._plain_tasks(reference)))
        job = {"namespace": "default", "name": "secure", "uid": "0123456789abcdef"}
        self.plan = Plan(job, 1, 3, self.attempt, self.clients, tuple(tasks))
        self.requests = {
            task.name: Request.of(self.plan.head(), task.to_document()) for task in tasks
        }

    def _spec(self) -> Any:
        from types import SimpleNamespace as Plain

        return Plain(
            privacy=self.privacy,
            compression=Plain(uplink=Plain(codec=self.codec)),
            participation=Plain(deadline_seconds=60.0, min_clients=1),
            aggregation=Plain(exclude=()),
            transfer=None,
        )

    def _plain_tasks(self, model: dict[str, Any]) -> Iterable[Task]:
        for name in self.clients:
            keys = {
                kind: f"round-0001/updates/{name}/{self.attempt}/{kind}"
                for kind in ("update.safetensors", "report.json")
            }
            outputs = {key.split(".")[0]: path for key, path in keys.items()}
            yield _task(f"train-{name}", "train", name, (), {}, {})
            settings = {"seed": sum(name.encode()), "codec": self.codec}
            depends = (f"train-{name}",)
            yield _task(f"compress-{name}", "compress", name, depends, outputs, settings, model)
        reports = {
            name: f"round-0001/updates/{name}/{self.attempt}/report.json" for name in self.clients
        }
        yield _task("aggregate", "aggregate", None, (), {}, {"reports": reports}, model)

    def advertise(self, names: Iterable[str]) -> None:
        for name in names:
            advertise.run(self.requests[f"advertise-{name}"], self.place)

    def share(self, names: Iterable[str]) -> None:
        for name in names:
            share.run(self.requests[f"share-{name}"], self.place)

    def prepare(self, sharing: Iterable[str] | None = None) -> None:
        """Run everything up to the exchange."""
        self.advertise(self.clients)
        roster.run(self.requests["roster"], self.place)
        self.share(self.clients if sharing is None else sharing)
        exchange.run(self.requests["exchange"], self.place)

    def deltas(self, name: str) -> dict[str, Any]:
        generator = np.random.default_rng(sum(name.encode()))
        return {
            "w": generator.normal(size=(40, 3)).astype(np.float32),
            "deep": generator.normal(size=7),
            "steps": np.array(float(generator.integers(1, 100))),
        }

    def send(self, names: Iterable[str]) -> None:
        for name in names:
            request = self.requests[f"compress-{name}"]
            update = masking.store(request, self.place, self.deltas(name), layout_of(MODEL))
            report = {"client": name, "update": {"key": update.key, "digest": update.digest}}
            data = json.dumps(report).encode()
            self.store.put(request.outputs["report"], data, replace=True)

    def survive(self) -> survivors.Survivors:
        return survivors.run(self.requests["survivors"], self.place, {})

    def reveal(self, names: Iterable[str]) -> None:
        for name in names:
            reveal.run(self.requests[f"reveal-{name}"], self.place)

    def mean(self) -> dict[str, np.ndarray]:
        layout = layout_of(MODEL)
        found: dict[str, list[np.ndarray]] = {name: [] for name in layout}
        with unmask.open_sum(self.requests["aggregate"], self.place, layout) as total:
            for block in total.aggregate([], np.zeros(0), layout):
                found[block.name].append(block.values.copy())
        return {
            name: np.concatenate(parts).reshape(MODEL[name].shape) for name, parts in found.items()
        }

    def expected(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The mean of the rounded updates, without any mask."""
        names = list(names)
        grid = GridLayout(layout_of(MODEL), GridRule(self.codec, 4.0, len(self.clients)))
        total = {ring: np.zeros(size, ring) for ring, size in grid.sizes.items()}
        for name in names:
            generator = np.random.Generator(np.random.PCG64(sum(name.encode())))
            rounded = fit_update(self.deltas(name), grid, None, False, generator)
            for ring, array in rounded.arrays.items():
                total[ring] += array
        found = {}
        for name, segment in grid.segments.items():
            sums = total[segment.grid.ring][segment.start : segment.start + segment.size]
            dtype = np.float32 if name == "w" else np.float64
            mean = segment.grid.mean(sums, len(names)).astype(dtype)
            found[name] = mean.reshape(MODEL[name].shape)
        return found


def _task(  # noqa: PLR0917
    name: str,
    step: str,
    client: str | None,
    depends: tuple[str, ...],
    outputs: dict[str, str],
    settings: dict[str, Any],
    model: dict[str, Any] | None = None,
) -> Task:
    group = f"client-{client}" if client else "server"
    inputs = {} if model is None else {"model": model}
    place = EDGE if client else CLOUD
    return Task(
        name, step, group, client, depends, client is not None, inputs, outputs, settings, place
    )


@pytest.fixture
def make(tmp_path):
    def attempt(clients: int = 5, number: int = 1, **more: Any) -> Attempt:
        return Attempt(tmp_path, tuple("abcdefghij"[:clients]), number, **more)

    return attempt


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def change(store: LocalStore, key: str, edit: Any) -> None:
    store.put(key, edit(store.get(key)), replace=True)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_the_mean_is_that_of_the_rounded_updates_bit_for_bit(make, codec):
    attempt = make(codec=codec)
    attempt.prepare()
    attempt.send("abcde")
    attempt.survive()
    attempt.reveal("abcde")
    assert same(attempt.mean(), attempt.expected("abcde"))
    plain = np.mean([np.clip(attempt.deltas(name)["w"], -4, 4) for name in "abcde"], axis=0)
    step = 4 / (127 if codec == "int8" else (2**31 - 1) // 5)
    assert np.abs(attempt.mean()["w"] - plain).max() <= step + 1e-6
    assert attempt.mean()["steps"] == np.mean([attempt.deltas(name)["steps"] for name in "abcde"])


def test_every_pattern_of_drop_outs_down_to_the_threshold_is_recovered(tmp_path):
    """Threshold 4 of 5: one may be missing, whoever, wherever."""
    number = 0
    for gone in "abcde":
        for phase in ("share", "train", "reveal"):
            number += 1
            attempt = Attempt(tmp_path, tuple("abcde"), number)
            left = [name for name in "abcde" if name != gone]
            attempt.prepare(sharing=left if phase == "share" else None)
            attempt.send("abcde" if phase == "reveal" else left)
            survived = attempt.survive()
            attempt.reveal(left)
            assert list(survived.clients) == (list("abcde") if phase == "reveal" else left)
            assert same(attempt.mean(), attempt.expected(survived.clients))


def test_several_drop_outs_in_different_phases_are_recovered_together(make):
    attempt = make(10)  # threshold 7
    attempt.prepare(sharing="bcdefghij")
    attempt.send("cdefghij")
    attempt.survive()
    attempt.reveal("cefghij")
    assert same(attempt.mean(), attempt.expected("cdefghij"))


@pytest.mark.parametrize("missing", list(itertools.combinations("abcde", 2)), ids="".join)
def test_one_answer_less_than_the_threshold_uncovers_nothing(make, missing):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    attempt.survive()
    attempt.reveal(name for name in "abcde" if name not in missing)
    with pytest.raises(JobError, match="got 3 shares, expected 4") as caught:
        attempt.mean()
    assert caught.value.reason == "TooFewShares"
    assert f"{missing[0]}: no answer arrived" in caught.value.message


@pytest.mark.parametrize("phase", ["advertise", "share", "train"])
def test_too_few_clients_end_the_attempt_wherever_they_get_lost(make, phase):
    attempt = make()

    def begin() -> None:
        if phase == "advertise":
            attempt.advertise("abc")
            roster.run(attempt.requests["roster"], attempt.place)
        attempt.prepare(sharing="abc" if phase == "share" else None)
        attempt.send("abc")
        attempt.survive()

    with pytest.raises(JobError) as caught:
        begin()
    assert caught.value.reason == "TooFewClients"
    assert "expected 4 or more" in caught.value.message
    assert "d: " in caught.value.message


def test_a_cohort_of_three_spares_nobody(make):
    attempt = make(3)
    attempt.prepare()
    attempt.send("ab")
    with pytest.raises(JobError, match="expected 3 or more"):
        attempt.survive()


def test_a_mailbox_that_was_changed_is_refused_and_its_client_done_without(make):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    attempt.survive()
    key = attempt.requests["reveal-b"].inputs["mailbox"]["key"]
    change(attempt.store, key, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="digest"):
        attempt.reveal("b")
    attempt.reveal("acde")
    assert same(attempt.mean(), attempt.expected("abcde"))


def test_shares_that_were_changed_on_their_way_are_named_by_who_opens_them(make):
    attempt = make()
    attempt.advertise("abcde")
    roster.run(attempt.requests["roster"], attempt.place)
    attempt.share("abcde")

    def spoil(data: bytes) -> bytes:  # what `a` sealed for `c`
        arrays, metadata = load_arrays(data)
        arrays["sealed"][2, 20] ^= 1
        return dump_arrays(arrays, metadata)

    change(attempt.store, attempt.requests["share-a"].outputs["shares"], spoil)
    exchange.run(attempt.requests["exchange"], attempt.place)
    attempt.send("abcde")
    attempt.survive()
    printed = reveal.run(attempt.requests["reveal-c"], attempt.place)
    assert list(printed["refused"]) == ["a"]
    attempt.reveal("abde")
    with unmask.open_sum(attempt.requests["aggregate"], attempt.place, layout_of(MODEL)) as total:
        assert "'a' sealed for it" in total.wrong["c"]
    assert same(attempt.mean(), attempt.expected("abcde"))


def test_a_wrong_share_in_an_answer_is_found_and_its_client_named(make):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    attempt.survive()
    attempt.reveal("abcde")

    def lie(data: bytes) -> bytes:
        document = json.loads(data)
        document["seeds"]["d"] = document["seeds"]["c"]
        return json.dumps(document, sort_keys=True).encode()

    change(attempt.store, attempt.requests["reveal-b"].outputs["reveal"], lie)
    with unmask.open_sum(attempt.requests["aggregate"], attempt.place, layout_of(MODEL)) as total:
        assert total.wrong == {"b": "its share of 'd' is wrong"}
    assert same(attempt.mean(), attempt.expected("abcde"))
    change(attempt.store, attempt.requests["reveal-e"].outputs["reveal"], lie)
    with pytest.raises(JobError, match="mask of client 'd'"):
        attempt.mean()


def test_messages_of_another_attempt_are_refused_by_name(make):
    first = make()
    first.prepare()
    first.send("abcde")
    first.survive()
    first.reveal("abcde")
    second = make(number=2)

    def replay(name: str, output: str) -> None:
        data = first.store.get(first.requests[name].outputs[output])
        second.store.put(second.requests[name].outputs[output], data, replace=True)

    for name in "abcd":
        advertise.run(second.requests[f"advertise-{name}"], second.place)
    replay("advertise-e", "advert")
    left_out = roster.run(second.requests["roster"], second.place)["left_out"]
    assert list(left_out) == ["e"]
    assert '"attempt": 1' in left_out["e"]
    for name in "abcd":
        share.run(second.requests[f"share-{name}"], second.place)
    replay("share-e", "shares")
    assert list(exchange.run(second.requests["exchange"], second.place)["left_out"]) == ["e"]
    second.send("abcd")
    replay("compress-e", "update")
    replay("compress-e", "report")
    survived = second.survive()
    assert survived.failures["e"]["reason"] == "NotInExchange"
    second.reveal("abcd")
    assert same(second.mean(), second.expected("abcd"))
    replay("reveal-a", "reveal")
    with pytest.raises(JobError, match=r"a: reveal: got one of the session .*expected"):
        second.mean()


def test_a_replayed_update_under_its_own_client_is_refused(make):
    first = make()
    first.prepare()
    first.send("abcde")
    second = make(number=2)
    second.prepare()
    second.send("abcde")
    old = first.requests["compress-c"].outputs["update"]
    artifact = second.store.put(
        second.requests["compress-c"].outputs["update"], first.store.get(old), replace=True
    )
    report = {"client": "c", "update": {"key": artifact.key, "digest": artifact.digest}}
    second.store.put(
        second.requests["compress-c"].outputs["report"], json.dumps(report).encode(), replace=True
    )
    failure = second.survive().failures["c"]
    assert failure["reason"] == "AnotherSession"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda arrays: arrays.pop("u4"), "expected"),
        (lambda arrays: arrays.update(u4=arrays["u4"][:-1]), "expected"),
        (lambda arrays: arrays.update(u4=arrays["u4"].astype(np.uint64)), "expected"),
        (lambda arrays: arrays.update(more=arrays["u4"]), "more"),
    ],
    ids=["missing", "short", "dtype", "more"],
)
def test_a_masked_update_of_another_shape_is_dropped_and_named(make, edit, words):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    key = attempt.requests["compress-b"].outputs["update"]
    arrays, metadata = load_arrays(attempt.store.get(key))
    edit(arrays)
    artifact = attempt.store.put(key, dump_arrays(arrays, metadata), replace=True)
    report = {"client": "b", "update": {"key": key, "digest": artifact.digest}}
    attempt.store.put(
        attempt.requests["compress-b"].outputs["report"], json.dumps(report).encode(), replace=True
    )
    survived = attempt.survive()
    assert survived.failures["b"]["reason"] == "MalformedUpdate"
    assert words in survived.failures["b"]["message"]
    attempt.reveal("acde")
    assert same(attempt.mean(), attempt.expected("acde"))


def test_a_client_answers_for_one_list_of_survivors_only(make):
    attempt = make(10)
    attempt.prepare()
    attempt.send("abcdefghij")
    first = attempt.survive()
    store = ClientSecrets(attempt.place.edge, "a")
    session = session_of(attempt.requests["reveal-a"])
    secrets = store.get(session)
    reveal.run(attempt.requests["reveal-a"], attempt.place)
    # A server that now says that `j` had dropped out, to a client that still had its secrets.
    second = replace(first, clients=first.clients[:-1])
    key = attempt.requests["survivors"].outputs["survivors"]
    attempt.store.put(key, second.to_bytes(session), replace=True)
    with pytest.raises(UpdateError) as caught:
        reveal.run(attempt.requests["reveal-a"], attempt.place)
    assert caught.value.reason == "SecretsLost"
    store._write(replace(secrets, answered=first.digest))
    with pytest.raises(UpdateError, match="expected the same again") as caught:
        reveal.run(attempt.requests["reveal-a"], attempt.place)
    assert caught.value.reason == "DoneDifferently"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: replace(s, clients=(*s.clients, "zoe")), "shared nothing"),
        (lambda s: replace(s, clients=s.clients[:3]), "expected 4"),
        (lambda s: replace(s, exchange="sha256:other"), "another exchange"),
    ],
    ids=["stranger", "too-few", "another-exchange"],
)
def test_a_client_does_not_answer_for_survivors_that_cannot_be(make, edit, words):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    found = attempt.survive()
    session = session_of(attempt.requests["reveal-a"])
    data = edit(found).to_bytes(session)
    key = attempt.requests["survivors"].outputs["survivors"]
    attempt.store.put(key, data, replace=True)
    with pytest.raises(UpdateError, match=words):
        attempt.reveal("a")
    assert not attempt.store.exists(attempt.requests["reveal-a"].outputs["reveal"])


def test_a_client_masks_one_update_in_an_attempt(make):
    attempt = make()
    attempt.prepare()
    attempt.send("a")
    before = attempt.store.get(attempt.requests["compress-a"].outputs["update"])
    attempt.send("a")  # repeated: the same bytes
    assert attempt.store.get(attempt.requests["compress-a"].outputs["update"]) == before
    other = {**attempt.deltas("a"), "deep": np.zeros(7)}
    with pytest.raises(UpdateError) as caught:
        masking.store(attempt.requests["compress-a"], attempt.place, other, layout_of(MODEL))
    assert caught.value.reason == "DoneDifferently"


def test_steps_can_be_run_twice_and_change_nothing(make):
    attempt = make()
    views = []
    for _ in range(2):
        attempt.advertise("abcde")
    for _ in range(2):
        views.append(roster.run(attempt.requests["roster"], attempt.place))
    for _ in range(2):
        attempt.share("abcde")
    for _ in range(2):
        views.append(exchange.run(attempt.requests["exchange"], attempt.place))
    assert {tuple(view["clients"]) for view in views} == {tuple("abcde")}
    attempt.send("abcde")
    first = attempt.survive()
    assert attempt.survive() == first
    for _ in range(2):
        attempt.reveal("abcde")
    assert same(attempt.mean(), attempt.expected("abcde"))
    assert same(attempt.mean(), attempt.expected("abcde"))


def test_an_attempt_that_starts_anew_shares_no_secret_with_the_one_that_was_killed(make):
    attempt = make()
    attempt.prepare()
    attempt.send("abcde")
    session = session_of(attempt.requests["advertise-a"])
    before = ClientSecrets(attempt.place.edge, "a").get(session)
    masked = attempt.store.get(attempt.requests["compress-a"].outputs["update"])
    attempt.store.delete("round-0001")
    attempt.prepare()
    after = ClientSecrets(attempt.place.edge, "a").get(session)
    assert not {before.seed, before.mask_key} & {after.seed, after.mask_key}
    attempt.send("abcde")
    assert attempt.store.get(attempt.requests["compress-a"].outputs["update"]) != masked
    attempt.survive()
    attempt.reveal("abcde")
    assert same(attempt.mean(), attempt.expected("abcde"))


def test_a_client_whose_secrets_are_lost_is_out_and_says_so(make):
    attempt = make()
    attempt.prepare()
    (attempt.place.edge / ".secrets/b.json").unlink()
    with pytest.raises(UpdateError) as caught:
        attempt.send("b")
    assert caught.value.reason == "SecretsLost"
    attempt.send("acde")
    attempt.survive()
    attempt.reveal("acde")
    assert same(attempt.mean(), attempt.expected("acde"))


def test_secrets_are_in_no_message_and_gone_in_the_end(make):
    attempt = make()
    attempt.prepare()
    session = session_of(attempt.requests["advertise-a"])
    secrets = [ClientSecrets(attempt.place.edge, name).get(session) for name in "abcde"]
    attempt.send("abcd")
    attempt.survive()
    attempt.reveal("abcde")
    attempt.mean()
    keys = [key for each in secrets for key in (each.seed, each.mask_key, each.share_key)]
    files = [path for path in attempt.folder.rglob("*") if path.is_file()]
    assert any(path.parent.name == ".secrets" for path in files)
    for path in files:
        data = path.read_bytes()
        for key in keys:
            assert key not in data, path
            assert key.hex().encode() not in data, path
    for each in secrets:
        assert each.seed.hex() not in repr(each)
        assert repr(each.seed)[2:-1] not in repr(each)
    path = attempt.place.edge / ".secrets/a.json"
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_client_that_is_not_in_the_roster_does_not_train(make):
    attempt = make()
    attempt.advertise("abcd")
    roster.run(attempt.requests["roster"], attempt.place)
    advertise.run(attempt.requests["advertise-e"], attempt.place)
    with pytest.raises(UpdateError) as caught:
        share.run(attempt.requests["share-e"], attempt.place)
    assert caught.value.reason == "NotInRoster"
    attempt.share("abcd")
    exchange.run(attempt.requests["exchange"], attempt.place)
    with pytest.raises(UpdateError):
        masking.prepare(attempt.requests["compress-e"], attempt.place)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'{"kind": "advert"}', b"\xff\xfe"])
def test_an_advert_that_is_none_is_left_out(make, data):
    attempt = make()
    attempt.advertise("abcde")
    attempt.store.put(attempt.requests["advertise-c"].outputs["advert"], data, replace=True)
    assert list(roster.run(attempt.requests["roster"], attempt.place)["left_out"]) == ["c"]


def test_a_key_that_was_replaced_is_noticed_by_its_owner(make):
    attempt = make()
    attempt.advertise("abcde")
    key = attempt.requests["advertise-b"].outputs["advert"]
    document = json.loads(attempt.store.get(key))
    document["mask_key"] = "11" * 32
    attempt.store.put(key, json.dumps(document).encode(), replace=True)
    roster.run(attempt.requests["roster"], attempt.place)
    with pytest.raises(UpdateError) as caught:
        share.run(attempt.requests["share-b"], attempt.place)
    assert caught.value.reason == "AnotherKey"


def test_an_edge_task_names_a_handful_of_keys_whatever_the_number_of_clients(make):
    for clients in (3, 10):
        attempt = make(clients)
        for task in attempt.plan.tasks:
            if task.client is not None:
                assert len(task.inputs) + len(task.outputs) <= 6


def test_errors_of_every_step_are_fedloom_s(make):
    attempt = make()
    for name in ("roster", "exchange", "survivors"):
        step = {"roster": roster.run, "exchange": exchange.run}.get(name)
        with pytest.raises(FedloomError):
            step(attempt.requests[name], attempt.place) if step else attempt.survive()


def test_the_steps_run_as_commands_too(make, tmp_path):
    attempt = make(3)
    plan = tmp_path / "plan.json"
    plan.write_bytes(attempt.plan.to_json())

    def run(step: str, client: str | None = None) -> dict[str, Any]:
        command = [sys.executable, "-I", "-m", f"components.{step}", "--plan", plan]
        command += ["--store", attempt.store.uri, "--workdir", attempt.place.work]
        command += ["--edge", attempt.place.edge, *(["--client", client] if client else [])]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in found.stderr
        return json.loads(found.stdout)

    attempt.advertise("bc")
    assert run("advertise", "a")["state"] == "Succeeded"
    assert run("roster")["clients"] == ["a", "b", "c"]
    attempt.share("bc")
    assert run("share", "a")["receivers"] == 3
    assert run("exchange")["clients"] == ["a", "b", "c"]
    attempt.send("abc")
    assert run("survivors")["clients"] == ["a", "b", "c"]
    attempt.reveal("bc")
    assert run("reveal", "a")["answered"] is True
    assert same(attempt.mean(), attempt.expected("abc"))
