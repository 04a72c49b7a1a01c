"""Which jobs come from Sedna: what counts in their containers and their rounds, whoever asks."""

from __future__ import annotations

from fedloom.api.declaration import REQUIRED, declared_fields
from fedloom.api.job import JobSpec

SEDNA = "sedna"
WEBSOCKET = "websocket"

_SEDNA_FIELDS = frozenset(
    {"aggregation_worker", "training_workers", "pretrained_model", "transmitter"}
)
_NEUTRAL_FIELDS = frozenset({"suspend", "compat"})


def planned_rounds(spec: JobSpec) -> int:
    """Give after how many rounds a job is done: one where old images go through all of theirs in it."""
    return 1 if spec.compat == WEBSOCKET else spec.rounds or 1


def compatibility_of(spec: JobSpec) -> str:
    """Give `sedna`, `websocket`, or nothing for a job of Fedloom's own.

    `spec.compat` where it is set; else `sedna` where the job has nothing but Sedna's own four fields,
    and perhaps `suspend`. A job whose defaults are filled in gives what it gave as it was written.
    """
    if spec.compat is not None:
        return spec.compat
    for field in declared_fields(JobSpec):
        if field.attribute in _SEDNA_FIELDS or field.attribute in _NEUTRAL_FIELDS:
            continue
        if field.default is REQUIRED or getattr(spec, field.attribute) != field.default:
            return ""
    return SEDNA
