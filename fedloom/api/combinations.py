"""Fields that are right by themselves and wrong together, each with the reason why.

What is refused here would run and give a model that nobody should trust: a bound that does not
hold, a sum that cannot be unmasked, a method that its own paper leaves no room for.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api import capabilities, defaults
from fedloom.api.engine_fields import engine_fields
from fedloom.api.job import JobSpec
from fedloom.api.learning import Privacy
from fedloom.api.quorum import rule_of
from fedloom.api.script_rule import script_problems
from fedloom.api.split_fields import split_fields
from fedloom.api.transfer_fields import transfer_fields
from fedloom.api.websocket_fields import websocket_fields
from fedloom.errors import Problem

LEARNING_RATES = ("learningRate", "learning_rate", "lr")
"""Hyperparameters that SCAFFOLD takes the clients' learning rate from, the first that is there."""

_ADDITIVE = ("fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi")


def incompatible_fields(spec: JobSpec) -> Iterator[Problem]:
    """Find the fields of a job that exclude each other."""
    _, algorithm = defaults.algorithm_of(spec)
    rule, _ = rule_of(algorithm, spec.aggregation)
    yield from script_problems(spec, algorithm, rule)
    yield from websocket_fields(spec)
    yield from split_fields(spec, algorithm)
    yield from _clipping(spec)
    yield from _weights(spec, algorithm.name, rule)
    yield from _shapes(spec, rule)
    yield from _sparse(spec, rule)
    yield from _drift(spec, algorithm.name, rule)
    yield from _participation(spec)
    yield from transfer_fields(spec, algorithm.name)
    yield from engine_fields(spec)
    if spec.privacy is not None:
        yield from _privacy(spec.privacy)
        if spec.privacy.noise_multiplier is not None:
            yield from _noise(spec, spec.privacy, algorithm.name, rule)
        if spec.privacy.secure_aggregation:
            yield from _masks(spec, spec.privacy, algorithm.name, rule)


def _clipping(spec: JobSpec) -> Iterator[Problem]:
    aggregation = spec.aggregation
    if aggregation.clip_norm is not None and aggregation.clip_quantile is not None:
        message = "got it beside clipNorm, expected one of the two bounds"
        yield Problem("spec.aggregation.clipQuantile", message)


def _weights(spec: JobSpec, algorithm: str, rule: str) -> Iterator[Problem]:
    weights = spec.aggregation.weights
    if weights in (None, "uniform"):
        return
    path = "spec.aggregation.weights"
    if rule in capabilities.UNWEIGHTED_RULES:
        yield Problem(path, f"got {weights!r}, which {rule} does not look at: leave it out")
    elif algorithm == "fednova" and weights == "steps":
        message = "got 'steps', expected examples or uniform: fednova divides by the steps itself"
        yield Problem(path, message)
    elif defaults.default_weights(spec) == "uniform":
        message = (
            f"got {weights!r}, expected uniform (or nothing): under noise or masks every client "
            "counts the same, or one client's weight would reveal or outweigh it"
        )
        yield Problem(path, message)


def _shapes(spec: JobSpec, rule: str) -> Iterator[Problem]:
    """Trees and shards give the bits of the flat result, or are not to be had."""
    aggregation = spec.aggregation
    clips = aggregation.clip_norm is not None or aggregation.clip_quantile is not None
    if rule == capabilities.SCRIPT_RULE:
        return
    if aggregation.fan_in is not None and (rule != "mean" or clips):
        got = rule if rule != "mean" else "clipping"
        message = f"got it with {got}, which looks at all updates at once: only sums form a tree"
        yield Problem("spec.aggregation.fanIn", message)
    if aggregation.shards is not None and aggregation.shards > 1:
        if rule in ("geometric-median", "krum", "multi-krum") or clips:
            got = "clipping" if clips else rule
            message = f"got it with {got}, which measures whole updates: parts cannot tell"
            yield Problem("spec.aggregation.shards", message)
        if aggregation.fan_in is not None:
            message = "got it beside fanIn, expected one of the two ways to share the work"
            yield Problem("spec.aggregation.shards", message)


def _sparse(spec: JobSpec, rule: str) -> Iterator[Problem]:
    codec = spec.compression.uplink.codec
    if rule in ("median", "trimmed-mean") and codec in ("dgc", "stc", "topk"):
        message = (
            f"got {codec!r} with {rule}, expected a codec that sends every value: of a value that "
            "few clients send the middle is zero, and the model stands still"
        )
        yield Problem("spec.compression.uplink.codec", message)


def _drift(spec: JobSpec, algorithm: str, rule: str) -> Iterator[Problem]:
    if algorithm in ("fednova", "scaffold") and rule != "mean":
        message = f"got {rule!r} with {algorithm}, whose corrections are made for the mean"
        yield Problem("spec.aggregation.rule", message)
    if algorithm != "scaffold":
        return
    if not any(name in spec.hyperparameters for name in LEARNING_RATES):
        message = f"got none of {', '.join(LEARNING_RATES)}: scaffold divides by the learning rate"
        yield Problem("spec.hyperparameters", message)
    workers, participation = len(spec.training_workers), spec.participation
    per_round = participation.clients_per_round
    if per_round not in (None, workers) or participation.sampling == "poisson":
        message = (
            f"got fewer than all {workers} clients, expected all: under partial participation the "
            "control variates of absent clients go stale, and scaffold is known to diverge"
        )
        yield Problem("spec.participation.clientsPerRound", message)
    codec = spec.compression.uplink.codec
    if codec == "dgc" or codec in capabilities.BIASED_CODECS:
        message = f"got {codec!r} with scaffold, whose control variates need an unbiased codec"
        yield Problem("spec.compression.uplink.codec", message)
    if spec.aggregation.clip_norm is not None or spec.aggregation.clip_quantile is not None:
        message = "got clipping with scaffold, whose control variates tell what is cut off"
        yield Problem("spec.aggregation", message)
    if spec.privacy is not None and spec.privacy.local is not None:
        message = "got it with scaffold, whose control variates would go out without noise"
        yield Problem("spec.privacy.local", message)
    if spec.aggregation.fan_in is not None or (spec.aggregation.shards or 1) > 1:
        message = "got a shared aggregation with scaffold, whose control variates are kept whole"
        yield Problem("spec.aggregation", message)


def _participation(spec: JobSpec) -> Iterator[Problem]:
    participation = spec.participation
    if participation.over_selection > 1 and participation.sampling == "poisson":
        message = "got it with poisson sampling, which has no number of clients to exceed"
        yield Problem("spec.participation.overSelection", message)
    if participation.over_selection > 1 and participation.clients_per_round is None:
        message = "got it without clientsPerRound, the number of updates that close a round"
        yield Problem("spec.participation.overSelection", message)
    if participation.sampling == "poisson" and participation.clients_per_round is None:
        message = "got 'poisson' without clientsPerRound, the number of clients on average"
        yield Problem("spec.participation.sampling", message)


def _privacy(privacy: Privacy) -> Iterator[Problem]:
    where = "spec.privacy"
    is_noisy = privacy.noise_multiplier is not None
    for name, value in (("maxEpsilon", privacy.max_epsilon), ("delta", privacy.delta)):
        if value is not None and not privacy.noise_multiplier:
            yield Problem(
                f"{where}.{name}", "got it without noiseMultiplier above 0, expected both"
            )
    if privacy.max_epsilon is not None and privacy.delta is None:
        yield Problem(f"{where}.delta", "got none, expected one beside maxEpsilon: 1e-5, say")
    if is_noisy and privacy.clip_norm is None:
        message = "got none, expected one beside noiseMultiplier: the noise is in units of it"
        yield Problem(f"{where}.clipNorm", message)
    if privacy.clip_quantile is not None and not is_noisy:
        message = "got it without noiseMultiplier: clipping alone is spec.aggregation.clipQuantile"
        yield Problem(f"{where}.clipQuantile", message)
    if privacy.clip_norm is not None and not (is_noisy or privacy.secure_aggregation):
        message = (
            "got it without noiseMultiplier or secureAggregation: clipping alone is "
            "spec.aggregation.clipNorm"
        )
        yield Problem(f"{where}.clipNorm", message)
    if privacy.secure_aggregation and privacy.clip_norm is None and privacy.max_value is None:
        message = "got none, expected it or maxValue beside secureAggregation: sums need a bound"
        yield Problem(f"{where}.clipNorm", message)
    if privacy.max_value is not None and not privacy.secure_aggregation:
        yield Problem(f"{where}.maxValue", "got it without secureAggregation, expected both")
    if privacy.secure_aggregation and privacy.local is not None:
        message = (
            "got it beside secureAggregation, whose bounded integers would cut the noise off: "
            "expected one of the two"
        )
        yield Problem(f"{where}.local", message)


def _noise(spec: JobSpec, privacy: Privacy, algorithm: str, rule: str) -> Iterator[Problem]:
    """Client-level privacy is the promise of one formula: clipped, summed, noised."""
    path = "spec.privacy.noiseMultiplier"
    if algorithm not in _ADDITIVE or rule != "mean":
        got = rule if rule != "mean" else algorithm
        message = f"got it with {got}, expected the mean of {', '.join(_ADDITIVE)}"
        yield Problem(path, f"{message}: nothing is known of the sensitivity of others")
    aggregation = spec.aggregation
    if aggregation.clip_norm is not None or aggregation.clip_quantile is not None:
        message = "got clipping there too, expected spec.privacy.clipNorm alone"
        yield Problem("spec.aggregation", message)
    if aggregation.fan_in is not None or (aggregation.shards or 1) > 1:
        message = (
            "got a shared aggregation with noise, expected one aggregator: it clips whole updates"
        )
        yield Problem("spec.aggregation", message)
    if spec.participation.over_selection > 1:
        message = (
            "got it with noise, expected 1: the fastest clients are no random sample, which the "
            "account of epsilon counts on"
        )
        yield Problem("spec.participation.overSelection", message)
    if spec.participation.sampling == "poisson" and spec.participation.min_clients is not None:
        message = (
            "got it with poisson sampling and noise, expected none: a cohort that is drawn again "
            "because it is small is no Poisson sample, which the account of epsilon counts on"
        )
        yield Problem("spec.participation.minClients", message)
    if spec.participation.sampling == "poisson" and privacy.secure_aggregation:
        message = (
            "got 'poisson' with noise and secureAggregation, expected fixed: masks need three "
            "clients, and a cohort that is drawn again because it is small is no Poisson sample"
        )
        yield Problem("spec.participation.sampling", message)
    if privacy.secure_aggregation and privacy.clip_quantile is not None:
        message = "got it beside secureAggregation: a server that sees no update counts no norms"
        yield Problem("spec.privacy.clipQuantile", message)


def _masks(spec: JobSpec, privacy: Privacy, algorithm: str, rule: str) -> Iterator[Problem]:
    """The server must need nothing but the sum."""
    path = "spec.privacy.secureAggregation"
    if algorithm not in _ADDITIVE or rule != "mean":
        got = rule if rule != "mean" else algorithm
        yield Problem(path, f"got it with {got}, which needs more than the sum of the updates")
    codec = spec.compression.uplink.codec
    if codec not in ("none", "int8"):
        message = (
            f"got {codec!r} with secureAggregation, expected none or int8: masked updates are "
            "summed as integers on one grid, at the same places in every update"
        )
        yield Problem("spec.compression.uplink.codec", message)
    if spec.compression.uplink.lossless != "none":
        message = "got zstd with secureAggregation: masked updates are random and do not shrink"
        yield Problem("spec.compression.uplink.lossless", message)
    if spec.compression.uplink.error_feedback:
        message = "got true with secureAggregation, expected false: its rounding is unbiased"
        yield Problem("spec.compression.uplink.errorFeedback", message)
    aggregation = spec.aggregation
    if aggregation.clip_norm is not None or aggregation.clip_quantile is not None:
        message = "got clipping with secureAggregation, expected spec.privacy.clipNorm: on the edge"
        yield Problem("spec.aggregation", message)
    if aggregation.fan_in is not None or (aggregation.shards or 1) > 1:
        message = "got a shared aggregation with secureAggregation, expected one aggregator"
        yield Problem("spec.aggregation", message)
    yield from _maskers(spec)


def _maskers(spec: JobSpec) -> Iterator[Problem]:
    """A client's masks are shared with at least two others, all of them there from the start."""
    path, participation = "spec.privacy.secureAggregation", spec.participation
    if participation.over_selection > 1:
        message = (
            "got it with secureAggregation, expected 1: a reserve that joins late shares no mask "
            "with the others"
        )
        yield Problem("spec.participation.overSelection", message)
    if participation.clients_per_round is not None and participation.clients_per_round < 3:
        message = (
            f"got {participation.clients_per_round} with secureAggregation, expected 3 or more"
        )
        yield Problem("spec.participation.clientsPerRound", message)
    if len(spec.training_workers) < 3:
        message = (
            f"got it with {len(spec.training_workers)} clients, expected 3 or more: the sum of two "
            "tells each of them the other's update"
        )
        yield Problem(path, message)
