"""A job as written -> the job that is run: everything that has a default is filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fedloom.api import capabilities
from fedloom.api.compatibility import compatibility_of
from fedloom.api.declaration import Catalogue
from fedloom.api.job import (
    MOST_ROUNDS,
    Aggregation,
    Algorithm,
    CodecSpec,
    FederatedLearningJob,
    JobSpec,
    Participation,
)
from fedloom.api.learning import Scalar
from fedloom.api.outcome import Output
from fedloom.api.pod import PodTemplate
from fedloom.api.quorum import rule_of
from fedloom.api.split_parameters import written_hyperparameters, written_parameters
from fedloom.api.transfer import Transfer, learns_from_others
from fedloom.errors import InvalidJobError, Problem

ROUNDS_VARIABLES = ("exit_round", "rounds")
ALGORITHM_VARIABLES = ("aggregation_algorithm",)


def with_defaults(job: FederatedLearningJob) -> FederatedLearningJob:
    """Fill in the defaults; what is set stays as it is, so doing it twice changes nothing more.

    - rounds: the environment's `exit_round` or `rounds`, else 1;
    - algorithm: the environment's `aggregation_algorithm`, else fedavg, and its parameters; those of
      mistnet and its epochs, batch size and learning rate from the environment, too;
    - the codecs' parameters, and error feedback wherever a codec is biased;
    - aggregation.rule: the algorithm where that is a rule, else the mean; its parameters;
    - aggregation.weights: by examples; uniform where updates are noised or masked;
    - participation.clients_per_round: the number of training workers;
    - participation.min_clients: the clients of a round, so by default nobody may be missing;
    - transfer: auto, where sources are given; scratch as its fallback, fail as that of other modes;
    - output.registeredModel: of a job of Sedna the name of its Model;
    - compat: sedna, where the job has Sedna's own fields only.

    The environment is that of the aggregation worker's template, then the training workers' in
    order; a variable's spelling in lower case comes before the one in upper case.

    Raises InvalidJobError where the environment's number of rounds is none.
    """
    spec = job.spec
    compression = replace(
        spec.compression,
        uplink=_codec(spec.compression.uplink, capabilities.UPLINK_CODECS),
        downlink=_codec(spec.compression.downlink, capabilities.DOWNLINK_CODECS),
    )
    filled = replace(
        spec,
        rounds=rounds_of(spec),
        algorithm=_algorithm(spec),
        hyperparameters=_hyperparameters(spec),
        aggregation=_aggregation(spec),
        compression=compression,
        participation=_participation(spec),
        transfer=_transfer(spec.transfer),
        output=_output(spec),
        compat=compatibility_of(spec) or None,
    )
    return replace(job, spec=filled, written=job.written or spec)


def rounds_of(spec: JobSpec) -> int:
    """The number of rounds; see with_defaults.

    Raises InvalidJobError where the environment's is not an integer from 1 to MOST_ROUNDS.
    """
    if spec.rounds is not None:
        return spec.rounds
    found = from_environment(spec, ROUNDS_VARIABLES)
    if found is None:
        return 1
    path, text = found
    # isdecimal alone takes the digits of every script, and int() refuses thousands of them.
    if text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= MOST_ROUNDS:
        return int(text)
    message = f"got {text[:60]!r}, expected a number of rounds from 1 to {MOST_ROUNDS}"
    raise InvalidJobError([Problem(path, message)])


def algorithm_of(spec: JobSpec) -> tuple[str, Algorithm]:
    """The algorithm as it is written, and the path where that is."""
    path, algorithm = "spec.algorithm.name", spec.algorithm
    if algorithm is None:
        found = from_environment(spec, ALGORITHM_VARIABLES)
        path, text = found or (path, capabilities.DEFAULT_ALGORITHM)
        algorithm = Algorithm(text.lower())
    if algorithm.name == capabilities.MISTNET:
        written = written_parameters(templates_of(spec), algorithm.parameters)
        algorithm = replace(algorithm, parameters=written)
    return path, algorithm


def from_environment(spec: JobSpec, variables: tuple[str, ...]) -> tuple[str, str] | None:
    """The path and value of the first of `variables` that a template sets to something."""
    for path, template in templates_of(spec):
        environment = template.environment
        for variable in (*variables, *(each.upper() for each in variables)):
            text = environment.get(variable, "").strip()
            if text:
                return f"{path}.spec.containers[0].env[{variable}]", text
    return None


def templates_of(spec: JobSpec) -> Iterator[tuple[str, PodTemplate]]:
    """The templates of all workers, each with its path, in the order in which they are asked."""
    yield "spec.aggregationWorker.template", spec.aggregation_worker.template
    for index, worker in enumerate(spec.training_workers):
        yield f"spec.trainingWorkers[{index}].template", worker.template


def _algorithm(spec: JobSpec) -> Algorithm:
    _, algorithm = algorithm_of(spec)
    parameters = _parameters(capabilities.ALGORITHMS, algorithm.name, algorithm.parameters)
    return replace(algorithm, parameters=parameters)


def _hyperparameters(spec: JobSpec) -> Mapping[str, Any]:
    if algorithm_of(spec)[1].name != capabilities.MISTNET:
        return spec.hyperparameters
    return written_hyperparameters(templates_of(spec), spec.hyperparameters)


def _codec(codec: CodecSpec, catalogue: Catalogue) -> CodecSpec:
    feedback = codec.error_feedback
    return replace(
        codec,
        parameters=_parameters(catalogue, codec.codec, codec.parameters),
        error_feedback=codec.codec in capabilities.BIASED_CODECS if feedback is None else feedback,
    )


def _aggregation(spec: JobSpec) -> Aggregation:
    _, algorithm = algorithm_of(spec)
    rule, written = rule_of(algorithm, spec.aggregation)
    parameters = _parameters(capabilities.RULES, rule, written)
    weights = spec.aggregation.weights or default_weights(spec)
    return replace(spec.aggregation, rule=rule, parameters=parameters, weights=weights)


def default_weights(spec: JobSpec) -> str:
    """How much clients count where the job does not say: all the same under noise and masks."""
    is_masked = spec.privacy is not None and spec.privacy.secure_aggregation
    return "uniform" if is_masked or _is_noisy(spec) else "examples"


def _is_noisy(spec: JobSpec) -> bool:
    return spec.privacy is not None and spec.privacy.noise_multiplier is not None


def _transfer(transfer: Transfer | None) -> Transfer | None:
    if transfer is None or not learns_from_others(transfer):
        return transfer
    mode = transfer.mode or "auto"
    fallback = transfer.fallback or ("scratch" if mode == "auto" else "fail")
    return replace(transfer, mode=mode, fallback=fallback)


def _parameters(
    catalogue: Catalogue, name: str, written: Mapping[str, Scalar]
) -> Mapping[str, Scalar]:
    taken = catalogue.get(name, {}).items()
    defaults = {key: each.default for key, each in taken if each.default is not None}
    return {**defaults, **written}


def _output(spec: JobSpec) -> Output:
    """Sedna's YAML cannot ask for a place in MLflow's registry; its Model's name says which it is."""
    model = spec.aggregation_worker.model
    if not compatibility_of(spec) or model is None or spec.output.registered_model is not None:
        return spec.output
    return replace(spec.output, registered_model=model.name)


def _participation(spec: JobSpec) -> Participation:
    participation, workers = spec.participation, len(spec.training_workers)
    per_round = participation.clients_per_round
    per_round = workers if per_round is None else per_round
    least = participation.min_clients
    if least is None:
        least = 0 if _is_noisy(spec) else 1
        # A Poisson cohort is of any size; under noise an empty one is a round too.
        least = least if participation.sampling == "poisson" else min(per_round, workers)
    return replace(participation, clients_per_round=per_round, min_clients=least)
