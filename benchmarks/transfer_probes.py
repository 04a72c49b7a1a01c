"""How far a probe can be trusted, and what it costs: the other tables of `transfer.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transfer_case as case
from numpy.typing import NDArray
from peers.digits import Images, Model
from transfer_markdown import Rows, Verdict, markdown

from components.candidates import Roster, read_candidates, write_candidates
from components.request import Place
from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.transfer.answers import Probe
from fedloom.algorithms.transfer.decision import LEAST_SAMPLES, SCRATCH, choose
from fedloom.artifacts.arrays import dump_arrays
from fedloom.artifacts.local import LocalStore

PER_CLASS = (2, 4, 10)
SAMPLES = (5, 10, 20, 50)
_DRAWS = 40
GRADES = (
    ("related", 1.0),
    *product(("permuted",), (0.1, 0.2, 0.3, 0.5, 1.0)),
    *product(("swapped",), (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)),
)


def measure_grades(seeds: int) -> Rows:
    rows = []
    for kind, amount in GRADES:
        gains: dict[int, list[float]] = {2: [], 4: []}
        leads: list[float] = []
        taken: dict[int, list[bool]] = {samples: [] for samples in SAMPLES}
        for seed in range(seeds):
            model = case.source(seed, kind, amount)
            for per_class, found in gains.items():
                target = case.target_of(seed, per_class)
                warm = case.accuracy(case.train(model, target.clients, case.ROUNDS), target.test)
                found.append(warm - _best_scratch(seed, per_class))
            ahead = np.log(10) - _losses(model, case.pool_of(seed)[0])
            leads.append(float(ahead.mean()))
            for samples in SAMPLES:
                taken[samples] += _draws(ahead, samples, seed)
        rows.append(
            {
                "source": kind if kind == "related" else f"{amount:.0%} {kind}",
                "gain": {per_class: fmean(found) for per_class, found in gains.items()},
                "lead": fmean(leads),
                "taken": {samples: fmean(draws) for samples, draws in taken.items()},
            }
        )
    return rows


_scratches: dict[tuple[int, int], float] = {}


def _best_scratch(seed: int, per_class: int) -> float:
    """Give what the better of 50 rounds with a head at zero and of 150 as drawn reaches."""
    if (seed, per_class) not in _scratches:
        target, own = case.target_of(seed, per_class), case.scratch(seed)
        ways = ((case.with_new_head(own), case.ROUNDS), (own, 3 * case.ROUNDS))
        _scratches[seed, per_class] = max(
            case.accuracy(case.train(model, target.clients, rounds), target.test)
            for model, rounds in ways
        )
    return _scratches[seed, per_class]


def _losses(model: Model, images: Images) -> NDArray[np.float64]:
    """Give the loss of every image."""
    hidden = np.maximum(images.x @ model["w1"] + model["b1"], 0)
    scores = (hidden @ model["w2"] + model["b2"]).astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(images.y)), images.y]
    return np.asarray(np.log(np.exp(scores).sum(axis=1)) - own)


def _draws(ahead: NDArray[np.float64], samples: int, seed: int) -> list[bool]:
    """Say of some draws of that many images, spread over the clients, whether the source is taken."""
    rng = np.random.default_rng((seed, samples))
    found = []
    for _ in range(_DRAWS):
        leads = ahead[rng.permutation(len(ahead))[:samples]]
        owner = rng.choice(case.CLIENTS, samples, p=rng.dirichlet(np.ones(case.CLIENTS)))
        full = {
            f"client-{k}": Probe(-float(leads[owner == k].mean()), int((owner == k).sum()))
            for k in range(case.CLIENTS)
            if (owner == k).any()
        }
        scratch = {client: Probe(0.0, probe.samples) for client, probe in full.items()}
        kinds = {SCRATCH: SCRATCH, "source": "full"}
        choice = choose({SCRATCH: scratch, "source": full}, kinds, least_samples=1)
        found.append(choice.candidate == "source")
    return found


def render_grades(rows: Rows) -> str:
    lines = [
        [
            row["source"],
            *(f"{gain:+.3f}" for gain in row["gain"].values()),
            f"{row['lead']:+.2f}",
            *(f"{share:.0%}" for share in row["taken"].values()),
        ]
        for row in rows
    ]
    head = ["source", "gain, 2 per class", "gain, 4 per class", "lead (nats)"]
    return markdown([*head, *(f"taken, {n} samples" for n in SAMPLES)], lines)


def judge_grades(rows: Rows) -> list[Verdict]:
    enough = [samples for samples in SAMPLES if samples >= LEAST_SAMPLES]
    harmful = [row for row in rows if max(row["gain"].values()) < 0]
    worst = max(row["taken"][samples] for row in harmful for samples in enough)
    related = rows[0]["taken"]
    signs = [row for row in rows if (row["lead"] > 0) == (row["gain"][2] > 0)]
    least = ", ".join(f"{related[samples]:.0%} with {samples}" for samples in enough)
    return [
        Verdict(
            worst <= 0.05,
            f"a source that does harm is taken in at most {worst:.0%} of the draws of "
            f"{LEAST_SAMPLES} samples and more",
        ),
        Verdict(related[LEAST_SAMPLES] >= 0.85, f"the related source is taken in {least} samples"),
        Verdict(
            True,
            f"the lead and the gain at 2 per class have one sign for {len(signs)} of {len(rows)} "
            "sources",
        ),
    ]


BODIES = ("labelshift", "permuted", "loud")
WAYS = (
    "held out, 20 passes",
    "held out, 50 passes",
    "training loss, 1 round",
    "training loss, 10 rounds",
)


def measure_bodies(seeds: int) -> Rows:
    rows = []
    for per_class, seed in product(PER_CLASS, range(seeds)):
        target, own = case.target_of(seed, per_class), case.scratch(seed)
        bodies = {kind: case.source(seed, kind) for kind in BODIES if kind != "loud"}
        bodies |= {"loud": case.loud(seed), SCRATCH: own}
        reached = {
            name: case.accuracy(
                case.train(case.with_new_head(body), target.clients, case.ROUNDS), target.test
            )
            for name, body in bodies.items()
        }
        answers = {name: dict(_ways(body, target.clients)) for name, body in bodies.items()}
        for name in BODIES:
            kinds = {SCRATCH: SCRATCH, name: "body"}
            taken = {
                way: choose({each: answers[each][way] for each in kinds}, kinds).candidate == name
                for way in WAYS
            }
            gain = reached[name] - reached[SCRATCH]
            rows.append(
                {"body": name, "per_class": per_class, "seed": seed, "gain": gain, "taken": taken}
            )
    return rows


def _ways(body: Model, clients: Sequence[Images]) -> Iterator[tuple[str, Mapping[str, Probe]]]:
    yield WAYS[0], case.probe_body(body, clients, 20)
    yield WAYS[1], case.probe_body(body, clients, 50)
    yield WAYS[2], case.probe_by_training_loss(body, clients, 1)
    yield WAYS[3], case.probe_by_training_loss(body, clients, 10)


def render_bodies(rows: Rows) -> str:
    lines = []
    for name in BODIES:
        own = [row for row in rows if row["body"] == name]
        gains = [fmean(row["gain"] for row in own if row["per_class"] == n) for n in PER_CLASS]
        taken = [f"{sum(row['taken'][way] for row in own)} of {len(own)}" for way in WAYS]
        lines.append([name, *(f"{gain:+.3f}" for gain in gains), *taken])
    return markdown(["body", *(f"gain, {n} per class" for n in PER_CLASS), *WAYS], lines)


def judge_bodies(rows: Rows) -> list[Verdict]:
    def taken(name: str, way: str) -> int:
        return sum(row["taken"][way] for row in rows if row["body"] == name)

    told = f"a body that has learnt nothing is taken {taken('loud', WAYS[0])} times by the held-out probe"
    by_training = max(taken("loud", way) for way in WAYS[2:])
    count = len([row for row in rows if row["body"] == "loud"])
    return [
        Verdict(
            taken("loud", WAYS[0]) <= 0.1 * count, f"{told}, {by_training} times by training losses"
        ),
    ]


STARTS = {"one start": (77,) * 5, "five starts": (77, 78, 79, 80, 81)}
FIVE = (
    ("related", 1.0),
    ("swapped", 0.4),
    ("permuted", 0.3),
    ("permuted", 1.0),
    ("labelshift", 1.0),
)


def measure_traffic(seeds: int) -> Rows:
    return [
        {"candidates": name, "seed": seed, **_compare(seed, starts)}
        for (name, starts), seed in product(STARTS.items(), range(seeds))
    ]


def _compare(seed: int, starts: Sequence[int]) -> dict[str, Any]:
    """Probe five sources, exact ones and what arrives of them, and compare."""
    models = {
        f"{kind} {amount:g}": case.source(seed, kind, amount, start)
        for (kind, amount), start in zip(FIVE, starts, strict=True)
    }
    clients = case.target_of(seed, PER_CLASS[0]).clients
    copies, size_bytes, codec = _sent(models)
    kinds = {SCRATCH: SCRATCH, **dict.fromkeys(models, "full")}
    exact, probed = (choose(case.probe_full(each, clients), kinds) for each in (models, copies))
    losses = {score.candidate: score.loss for score in exact.scores}
    return {
        "codec": codec,
        "bytes": size_bytes,
        "round_bytes": 2 * len(dump_arrays(case.scratch(seed))),
        "error": max(abs(losses[score.candidate] - score.loss) for score in probed.scores),
        "same": exact.candidate == probed.candidate,
    }


def _sent(models: Mapping[str, Model]) -> tuple[dict[str, Model], int, str]:
    """Send candidates as the product does; give what arrives, its bytes and the differences' codecs."""
    with TemporaryDirectory() as folder:
        place = Place(LocalStore(Path(folder)), *(Path(folder),) * 5)
        kinds = dict.fromkeys(models, "full")
        keys = [f"slot-{slot}" for slot in range(len(models) + 1)]
        found, base = write_candidates(models, kinds, keys, place, 0)
        layout = layout_of(next(iter(models.values())))
        roster = Roster(tuple(found.values()), base, tuple(sorted(case.HEAD)), layout)
        arrived = read_candidates(roster, place)
        codecs = sorted(each.codec for each in found.values() if each.is_difference)
        copies = {name: dict(arrived[found[name].slot]) for name in models}
        return copies, roster.bytes_down, ", ".join(codecs)


def render_traffic(rows: Rows) -> str:
    lines = []
    for name in dict.fromkeys(row["candidates"] for row in rows):
        own = [row for row in rows if row["candidates"] == name]
        size, whole = fmean(row["bytes"] for row in own), own[0]["round_bytes"]
        same = sum(row["same"] for row in own)
        lines.append(
            [
                f"5 sources of {name}",
                "; ".join(sorted({row["codec"] for row in own})),
                f"{size:,.0f}",
                f"{whole:,}",
                f"**{size / whole:.2f}**",
                f"{max(row['error'] for row in own):.3f}",
                f"{same} of {len(own)}",
            ]
        )
    head = ["candidates", "differences by", "bytes down", "a round's bytes", "share"]
    return markdown([*head, "largest error of a loss (nats)", "same choice"], lines)


def judge_traffic(rows: Rows) -> list[Verdict]:
    most = max(row["bytes"] / row["round_bytes"] for row in rows)
    return [
        Verdict(most <= 1, f"five candidates cost {most:.2f} of a round's traffic at most"),
        Verdict(all(row["same"] for row in rows), "encoded copies lead to the same choices"),
    ]
