"""Which candidate a job begins with, decided by what clients say of each: a loss and a count.

Nothing is taken because it looks best, only because it is surely better than scratch. With d_k the
loss of scratch minus that of a candidate at client k, and w_k the client's share of the samples,

    d    = sum of w_k d_k
    n    = 1 / sum of w_k^2                                clients, as many as count (Kish)
    s^2  = n / (n - 1) * sum of w_k^2 (d_k - d)^2

is the linearised variance of a ratio of sums over clusters (Cochran, "Sampling Techniques", 3rd ed.
1977, sections 2.11 and 6.3), the clusters being clients: both candidates are measured on the same
samples, so what makes a client's samples hard cancels out. Of K clients of one size n is K, and s
the usual error of a mean; where one has most of the samples, n says how few speak (Kish, "Survey
Sampling", 1965, section 11.7), and s^2 is unbiased for samples that vary alike. d / s is held
against Student's t with K - 1 degrees of freedom, on one side. It is an approximation where there
are few clients of unequal size; docs/transfer.md says how often it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedloom.algorithms.transfer.answers import Answers, Probe, gather
from fedloom.algorithms.transfer.student import upper_tail

SCRATCH = "scratch"
SCRATCH_BODY = "scratch#body"
LEAST_SAMPLES = 10
"""With fewer probed samples, of all clients together, nothing is sure."""
SURE_AT = 0.05
"""How often a candidate that is no better than scratch may look surely better."""
_STAGES = ("full", "body")


@dataclass(frozen=True)
class Score:
    """What all clients together say of one candidate.

    Attributes:
        candidate: its name.
        kind: scratch, full or body.
        loss: mean over the samples of all clients that count.
        standard_error: of the difference to scratch; 0 for scratch, NaN where one client alone
            counts.
        samples: of how many samples.
    """

    candidate: str
    kind: str
    loss: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class Choice:
    """What is taken, and why.

    Attributes:
        candidate: its name, "scratch" where nothing else is surely better.
        kind: scratch, full or body.
        is_sure: whether the samples were enough to say so.
        reason: BestLoss, NothingBetter, NotSure or TooFewSamples.
        message: one sentence with the figures.
        scores: of all candidates with figures, best first.
        left_out: clients that do not count: an answer missing, not finite, or over other samples.
        refused: candidates without a finite loss from half of the samples.
    """

    candidate: str
    kind: str
    is_sure: bool
    reason: str
    message: str
    scores: tuple[Score, ...]
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def choose(
    probes: Mapping[str, Mapping[str, Probe]],
    kinds: Mapping[str, str],
    *,
    least_samples: int = LEAST_SAMPLES,
    noise: float = 0.0,
) -> Choice:
    """Choose among scratch and other candidates.

    Full candidates are compared with "scratch". Only where none of them is surely better, bodies
    are compared with "scratch#body", which is measured as they are; where that is missing, with
    "scratch". Of several that are surely better, the one with the lowest loss is taken; of equal
    losses, the first by name. The order of the mappings makes no difference.

    Args:
        probes: candidate -> client -> what the client found; "scratch" is one of them.
        kinds: candidate -> scratch, full or body.
        least_samples: fewer in all are not enough to be sure of anything.
        noise: standard deviation of what privacy added to each candidate's mean loss, in the units
            of the loss; it widens every error.
    """
    answers = gather(probes, kinds)
    scores = _scores(answers, kinds, noise)
    findings = [_finding(stage, scores, answers, kinds, noise) for stage in _STAGES]
    found = [finding for finding in findings if finding is not None]
    taken = next((each for each in found if each.reason == "BestLoss"), None)
    doubt = next((each for each in found if each.reason == "NotSure"), None)
    if SCRATCH not in answers.losses:
        finding = _Finding("TooFewSamples", "got no finite loss of the model from scratch")
    elif answers.samples < least_samples:
        said = f"got {answers.samples} probed samples of {len(answers.clients)} clients"
        finding = _Finding("TooFewSamples", f"{said}, expected at least {least_samples}")
    else:
        nothing = _Finding("NothingBetter", _nothing_better(scores, answers))
        finding = taken or doubt or nothing
    can_be_sure = finding.reason in ("BestLoss", "NothingBetter")
    return Choice(
        candidate=finding.candidate,
        kind=kinds.get(finding.candidate, SCRATCH),
        is_sure=can_be_sure and len(answers.clients) > 1,
        reason=finding.reason,
        message="; ".join([finding.message, *_without(answers)]),
        scores=scores,
        left_out=answers.left_out,
        refused=answers.refused,
    )


@dataclass(frozen=True)
class _Finding:
    reason: str
    message: str
    candidate: str = SCRATCH


def _finding(
    stage: str,
    scores: Sequence[Score],
    answers: Answers,
    kinds: Mapping[str, str],
    noise: float,
) -> _Finding | None:
    """Give what one kind of candidates amounts to; None where none of them is better."""
    control = _control(stage, answers)
    better = []
    for score in scores:
        if kinds[score.candidate] != stage or control not in answers.losses:
            continue
        lead, error = difference(answers, control, score.candidate, noise)
        if lead > 0:
            better.append((score, lead, error))
    degrees = len(answers.clients) - 1
    for score, lead, error in better:
        if degrees > 0 and upper_tail(lead / error if error else math.inf, degrees) <= SURE_AT:
            return _Finding("BestLoss", _lead(score, lead, error, answers), score.candidate)
    if not better:
        return None
    score, lead, error = better[0]
    doubt = "one client alone tells no error" if degrees < 1 else "which may be chance"
    return _Finding("NotSure", f"{_lead(score, lead, error, answers)}, {doubt}: from scratch")


def difference(
    answers: Answers, control: str, candidate: str, noise: float = 0.0
) -> tuple[float, float]:
    """Give by how much a candidate's loss is below the control's, and the standard error of that.

    The error is NaN where fewer than two clients count.
    """
    total = answers.samples
    if not total:
        return 0.0, math.nan
    shares = [answers.counts[client] / total for client in answers.clients]
    leads = [
        answers.losses[control][client] - answers.losses[candidate][client]
        for client in answers.clients
    ]
    mean = math.fsum(share * lead for share, lead in zip(shares, leads, strict=True))
    if len(answers.clients) < 2:
        return mean, math.nan
    spread = math.fsum(
        (share * (lead - mean)) ** 2 for share, lead in zip(shares, leads, strict=True)
    )
    effective = effective_clients(answers)
    return mean, math.sqrt(spread * effective / (effective - 1) + 2 * noise**2)


def effective_clients(answers: Answers) -> float:
    """Give how many clients of one size say as much: 1 where one has all the samples."""
    total = answers.samples
    return total**2 / sum(count**2 for count in answers.counts.values()) if total else 0.0


def _scores(answers: Answers, kinds: Mapping[str, str], noise: float) -> tuple[Score, ...]:
    scores = []
    for candidate, losses in answers.losses.items():
        total, error = answers.samples, 0.0
        weighted = (answers.counts[client] * losses[client] for client in answers.clients)
        loss = math.fsum(weighted) / total if total else math.nan
        control = _control(kinds[candidate], answers)
        if kinds[candidate] != SCRATCH and control in answers.losses:
            error = difference(answers, control, candidate, noise)[1]
        scores.append(Score(candidate, kinds[candidate], loss, error, total))
    return tuple(sorted(scores, key=lambda score: (score.loss, score.candidate)))


def _control(kind: str, answers: Answers) -> str:
    """Give the candidate that one of `kind` is compared with."""
    return SCRATCH_BODY if kind == "body" and SCRATCH_BODY in answers.losses else SCRATCH


def _lead(score: Score, lead: float, error: float, answers: Answers) -> str:
    below = "scratch" if _control(score.kind, answers) == SCRATCH else "a body from scratch"
    over = f"over {score.samples} samples of {len(answers.clients)} clients"
    return (
        f"{score.candidate} has loss {score.loss:.4g}, {lead:.3g} (+- {error:.2g}) below {below}, "
        f"{over}"
    )


def _nothing_better(scores: Sequence[Score], answers: Answers) -> str:
    losses = ", ".join(f"{score.candidate} {score.loss:.4g}" for score in scores)
    return f"nothing is better than scratch: losses {losses} over {answers.samples} samples"


def _without(answers: Answers) -> list[str]:
    parts = []
    for what, names in (("clients", answers.left_out), ("candidates", answers.refused)):
        if names:
            some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            parts.append(f"without {len(names)} {what} of no usable loss ({some})")
    return parts
