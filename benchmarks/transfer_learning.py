"""The main table of `transfer.py`: how well a small job learns, by where it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import transfer_case as case
from peers.digits import Images, Model
from transfer_markdown import Rows, Verdict, markdown

from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.algorithms.transfer.decision import SCRATCH, SCRATCH_BODY, Choice, choose

PER_CLASS = (2, 4, 10)
KINDS = ("related", "permuted", "labelshift")

REFERENCE: Mapping[str, Sequence[float]] = {
    "each client alone, mean": (0.181, 0.210, 0.256),
    "scratch": (0.347, 0.423, 0.572),
    "scratch, 150 rounds": (0.393, 0.485, 0.609),
    "scratch, head at zero": (0.387, 0.441, 0.581),
    "scratch, head at zero, 150 rounds": (0.403, 0.495, 0.625),
    "warm start from related, 0 rounds": (0.728, 0.728, 0.728),
    "warm start from related, 5 rounds": (0.721, 0.718, 0.742),
    "warm start from related": (0.713, 0.732, 0.722),
    "warm start from permuted": (0.306, 0.372, 0.514),
    "warm start from labelshift": (0.153, 0.213, 0.446),
    "body of related, new head": (0.472, 0.566, 0.658),
    "body of permuted, new head": (0.401, 0.474, 0.593),
    "body of labelshift, new head": (0.479, 0.561, 0.654),
    "warm start from related, L2-SP 0.1": (0.716, 0.732, 0.724),
}
SCRATCHES = [name for name in REFERENCE if name.startswith("scratch")]
ALL = "auto among related, permuted, labelshift"
BAD = "auto among permuted, labelshift"
BAD_AND_BODIES = "the same, and their bodies held out"


def measure_learning(seeds: int) -> Rows:
    rows = []
    for per_class in PER_CLASS:
        for seed in range(seeds):
            target = case.target_of(seed, per_class)
            reached, picks = _learn(seed, target)
            rows.append({"per_class": per_class, "seed": seed, "accuracy": reached, **picks})
    return rows


def _learn(seed: int, target: case.Target) -> tuple[dict[str, float], dict[str, Any]]:
    sources = {kind: case.source(seed, kind) for kind in KINDS}
    own, clients = case.scratch(seed), target.clients

    def after(model: Model, rounds: int = case.ROUNDS, **options: Any) -> Model:
        return case.train(model, clients, rounds, **options)

    models: dict[str, Model] = {}
    for name, model in {"scratch": own, "scratch, head at zero": case.with_new_head(own)}.items():
        models[name] = after(model)
        models[f"{name}, 150 rounds"] = after(models[name], 100, first=51)
    related = sources["related"]
    models["warm start from related, 0 rounds"] = related
    models["warm start from related, 5 rounds"] = after(related, 5)
    for kind, model in sources.items():
        models[f"warm start from {kind}"] = after(model)
        models[f"body of {kind}, new head"] = after(case.with_new_head(model))
    pull = DriftCorrection(mu=0.1, anchor=related)
    models["warm start from related, L2-SP 0.1"] = after(related, correct=pull)
    reached = {name: case.accuracy(model, target.test) for name, model in models.items()}
    alone = (case.train(own, [images], case.ROUNDS) for images in clients)
    reached["each client alone, mean"] = fmean(case.accuracy(model, target.test) for model in alone)
    choices = _choices(seed, clients, sources)
    for name, choice in choices.items():
        reached[name] = reached[_way(choice)]
    heads = {kind: _by_training_loss(model, clients) for kind, model in sources.items()}
    picks = {name: _told(choice) for name, choice in choices.items()}
    return reached, {"choices": picks, "by training loss": min(heads, key=lambda kind: heads[kind])}


def _choices(
    seed: int, clients: Sequence[Images], sources: Mapping[str, Model]
) -> dict[str, Choice]:
    """Choose among all sources, and among those alone that are not related."""
    full = case.probe_full(sources, clients)
    kinds = {SCRATCH: SCRATCH, **dict.fromkeys(sources, "full")}
    bad = [name for name in kinds if name != "related"]
    some = {name: full[name] for name in bad}
    bodies = {
        f"{name}#body": case.probe_body(sources[name], clients) for name in sources if name in bad
    }
    bodies[SCRATCH_BODY] = case.probe_body(case.scratch(seed), clients)
    body_kinds = {**dict.fromkeys(bodies, "body"), SCRATCH_BODY: SCRATCH}
    few = {name: kinds[name] for name in bad}
    return {
        ALL: choose(full, kinds),
        BAD: choose(some, few),
        BAD_AND_BODIES: choose({**some, **bodies}, {**few, **body_kinds}),
    }


def _way(choice: Choice) -> str:
    """Give the row of the table that a job goes on as after a choice."""
    name = choice.candidate.removesuffix("#body")
    return {"full": f"warm start from {name}", "body": f"body of {name}, new head"}.get(
        choice.kind, "scratch"
    )


def _told(choice: Choice) -> dict[str, Any]:
    return {"candidate": choice.candidate, "reason": choice.reason, "message": choice.message}


def _by_training_loss(body: Model, clients: Sequence[Images]) -> float:
    answers = case.probe_by_training_loss(body, clients, 10).values()
    return sum(probe.loss * probe.samples for probe in answers)


def of(rows: Rows, name: str, per_class: int) -> list[float]:
    """Give what was reached, per seed."""
    return [row["accuracy"][name] for row in rows if row["per_class"] == per_class]


def picked(rows: Rows, name: str, candidate: str) -> list[int]:
    """Give how often a candidate was taken, per number of samples."""
    chosen = [(row["per_class"], row["choices"][name]["candidate"]) for row in rows]
    return [chosen.count((per_class, candidate)) for per_class in PER_CLASS]


def render_learning(rows: Rows) -> str:
    head = ["accuracy after 50 rounds", *(f"{n} per class" for n in PER_CLASS), "reference"]
    lines = []
    for name in (*REFERENCE, ALL, BAD, BAD_AND_BODIES):
        cells = [_with_error(of(rows, name, per_class)) for per_class in PER_CLASS]
        known = REFERENCE.get(name)
        lines.append([name, *cells, ", ".join(f"{v:.3f}" for v in known) if known else ""])
    return markdown(head, lines)


def _with_error(values: Sequence[float]) -> str:
    return f"**{fmean(values):.3f}** +- {_error(values):.3f}"


def _error(values: Sequence[float]) -> float:
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0


def judge_learning(rows: Rows) -> list[Verdict]:
    fewest = PER_CLASS[0]
    best = max(fmean(of(rows, name, fewest)) for name in SCRATCHES)
    gain = fmean(of(rows, "warm start from related", fewest)) - best
    right = picked(rows, ALL, "related")
    found = [
        Verdict(
            gain >= 0.25,
            f"warm start from related: {gain:+.3f} over the best scratch at 2 per class",
        ),
        Verdict(
            sum(right) >= 14 * len(rows) / 15,
            f"auto takes the right source in {sum(right)} of {len(rows)} cases",
        ),
    ]
    worst = 0.0
    for name in (BAD, BAD_AND_BODIES):
        for per_class in PER_CLASS:
            pairs = zip(of(rows, name, per_class), of(rows, "scratch", per_class), strict=True)
            gains = [auto - scratch for auto, scratch in pairs]
            text = f"{name}, {per_class} per class: {fmean(gains):+.3f} against scratch"
            found.append(
                Verdict(fmean(gains) >= -_error(gains), f"{text} (+- {_error(gains):.3f})")
            )
            worst = min(worst, *gains)
    image = sqrt(0.25 / case.TEST_IMAGES)
    text = f"in the worst single case auto is at {worst:+.3f} against scratch"
    found.append(Verdict(worst >= -image, f"{text} (+- {image:.3f} for {case.TEST_IMAGES} images)"))
    harm = min(
        fmean(of(rows, "warm start from labelshift", n)) - fmean(of(rows, "scratch", n))
        for n in PER_CLASS
    )
    found.append(Verdict(True, f"a warm start from the worst source without a probe: {harm:+.3f}"))
    told = [row["by training loss"] for row in rows]
    line = f"the training loss of a 10-round head probe takes the right one of three in {told.count('related')}"
    return [*found, Verdict(True, f"{line} of {len(told)}")]
