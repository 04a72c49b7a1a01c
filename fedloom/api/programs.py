"""Whose program does the cloud's part of a round that is the user's."""

from __future__ import annotations

from fedloom.api.compatibility import SEDNA, compatibility_of
from fedloom.api.job import JobSpec
from fedloom.api.pod import PodTemplate
from fedloom.api.split_fields import is_split


def server_template(spec: JobSpec) -> PodTemplate:
    """Give whose program does the cloud's tasks: the aggregation worker's where it has one of its own.

    Sedna's images have theirs. Else it is the first training worker's, whose class does all tasks.
    """
    own = spec.aggregation_worker.template
    is_own = bool(own.command) or compatibility_of(spec) == SEDNA
    return own if is_own else spec.training_workers[0].template


def evaluation_template(spec: JobSpec) -> PodTemplate:
    """Give whose program evaluates: what the job says, else whose class it is."""
    if spec.evaluation is not None and spec.evaluation.template is not None:
        return spec.evaluation.template
    return server_template(spec) if is_split(spec) else spec.training_workers[0].template
