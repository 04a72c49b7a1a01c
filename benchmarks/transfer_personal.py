"""What a model of a client's own is worth to that client: a table of `transfer.py`.

Each client's test is the test images weighted so that their labels are as frequent as among its own
samples: what it will see, if it goes on as it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import transfer_case as case
from numpy.typing import NDArray
from peers import digits
from peers.digits import Images, Model
from transfer_markdown import Rows, Verdict, markdown

from fedloom.algorithms.transfer.body import transferred
from fedloom.algorithms.transfer.personal import ditto

PER_CLASS = 10
_STRENGTHS = (0.1, 1.0)
_BEGINNINGS = ("scratch", "warm start from related")


def measure_personal(seeds: int) -> Rows:
    rows = []
    for seed in range(seeds):
        target = case.target_of(seed, PER_CLASS)
        beginnings = (case.scratch(seed), case.source(seed, "related"))
        for name, first in zip(_BEGINNINGS, beginnings, strict=True):
            reached = {
                way: fmean(_own_accuracy(own, images, target.test) for own, images in models)
                for way, models in _ways(first, target.clients).items()
            }
            rows.append({"beginning": name, "seed": seed, "accuracy": reached})
    return rows


def _ways(first: Model, clients: Sequence[Images]) -> dict[str, list[tuple[Model, Images]]]:
    """Train in every way; give each client's model at the end."""
    common, own = _train(first, clients)
    _, with_heads = _train(first, clients, keeps_head=True)
    ways: dict[str, list[Model]] = {
        "the global model": [common] * len(clients),
        "alone, 50 rounds": [case.train(first, [images], case.ROUNDS) for images in clients],
        "`personalize: finetune`": own,
        "`personalize: body`": with_heads,
    }
    for mu in _STRENGTHS:
        ways[f"`anchor: {{kind: ditto, mu: {mu:g}}}`"] = _train_ditto(first, clients, mu)
    return {way: list(zip(models, clients, strict=True)) for way, models in ways.items()}


def _train(
    first: Model, clients: Sequence[Images], *, keeps_head: bool = False
) -> tuple[Model, list[Model]]:
    """Give the global model, and what each client's last training made of it."""
    common, own = first, [first] * len(clients)
    counts = [len(images.y) for images in clients]
    for number in range(1, case.ROUNDS + 1):
        given = [transferred(common, kept, case.HEAD) if keeps_head else common for kept in own]
        own = [
            digits.train(model, images, number, client)
            for client, (model, images) in enumerate(zip(given, clients, strict=True))
        ]
        common = _mean(own, counts)
    return common, own


def _train_ditto(first: Model, clients: Sequence[Images], mu: float) -> list[Model]:
    """Train the global model and, beside it, one for each client that is pulled to it."""
    common, own = first, [first] * len(clients)
    for number in range(1, case.ROUNDS + 1):
        correct: Any = ditto(mu, common)
        own = [
            digits.train(model, images, number, client, correct)
            for client, (model, images) in enumerate(zip(own, clients, strict=True))
        ]
        common = case.train(common, clients, 1, first=number)
    return own


def _mean(models: Sequence[Model], counts: Sequence[int]) -> Model:
    return {
        name: np.average([model[name] for model in models], axis=0, weights=counts).astype(
            np.float32
        )
        for name in models[0]
    }


def _own_accuracy(model: Model, images: Images, test: Images) -> float:
    """Give the accuracy on test images whose labels are as frequent as the client's."""
    hidden = np.maximum(test.x @ model["w1"] + model["b1"], 0)
    hits = (hidden @ model["w2"] + model["b2"]).argmax(axis=1) == test.y
    weights: NDArray[np.float64] = np.bincount(images.y, minlength=10) / np.bincount(test.y)
    return float(np.average(hits, weights=weights[test.y]))


def render_personal(rows: Rows) -> str:
    lines = [
        [way, *(f"**{_mean_of(rows, beginning, way):.3f}**" for beginning in _BEGINNINGS)]
        for way in rows[0]["accuracy"]
    ]
    return markdown(["model of a client", *_BEGINNINGS], lines)


def _mean_of(rows: Rows, beginning: str, way: str) -> float:
    return fmean(row["accuracy"][way] for row in rows if row["beginning"] == beginning)


def judge_personal(rows: Rows) -> list[Verdict]:
    gain = {
        beginning: max(_mean_of(rows, beginning, way) for way in rows[0]["accuracy"])
        - _mean_of(rows, beginning, "the global model")
        for beginning in _BEGINNINGS
    }
    told = ", ".join(f"{value:+.3f} ({beginning})" for beginning, value in gain.items())
    return [Verdict(True, f"the best of them against the global model: {told}")]
