"""The objects of the API, read from mappings.

Checked here is what each field says about itself (name, type, bounds); what needs more than one
field or object is `validation`'s. Nothing but InvalidJobError is ever raised, whatever is given.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

from fedloom.api.dataset import Dataset, DatasetSpec
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.metadata import ObjectMeta
from fedloom.api.model import Model, ModelSpec
from fedloom.api.reader import BAD, Reader
from fedloom.api.secret import Secret
from fedloom.api.status import JobStatus
from fedloom.api.wording import at, shown, wrong_type
from fedloom.errors import InvalidJobError, Problem

API_VERSION = "sedna.io/v1alpha1"

Noun = FederatedLearningJob | Dataset | Model

KINDS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "FederatedLearningJob": (FederatedLearningJob, JobSpec),
    "Dataset": (Dataset, DatasetSpec),
    "Model": (Model, ModelSpec),
}
_PARTS = ("apiVersion", "kind", "metadata", "spec", "status")
_SECRET_PARTS = ("apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable")

# What an API server, or kubectl for it, puts beside the fields that are read.
_OTHER_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)


def read_object(document: object) -> Noun:
    """Read a job, a dataset or a model; a `status` it may carry is passed over.

    Raises InvalidJobError with every problem, each at its path in the document.
    """
    reader = Reader()
    return cast("Noun", reader.guarded(lambda value: _object(reader, value), document))


def read_job(document: object) -> FederatedLearningJob:
    """Read a FederatedLearningJob. Raises InvalidJobError with every problem."""
    noun = read_object(document)
    if not isinstance(noun, FederatedLearningJob):
        message = f"got {type(noun).__name__!r}, expected 'FederatedLearningJob'"
        raise InvalidJobError([Problem("kind", message)])
    return noun


def read_secret(document: object) -> Secret:
    """Read a Kubernetes Secret: `stringData`, and `data` in base64; the former wins.

    Bytes that are not UTF-8 are kept as surrogate escapes. Raises InvalidJobError with every
    problem; no message shows a value.
    """
    reader = Reader()
    return cast("Secret", reader.guarded(lambda value: _secret(reader, value), document))


def read_status(document: object) -> JobStatus:
    """Read a job's `status`; fields that are not known are passed over, None is an empty status.

    Raises InvalidJobError where a known field is of another type than it should be.
    """
    reader = Reader(passes_unknown=True)
    given = {} if document is None else document
    return cast(
        "JobStatus", reader.guarded(lambda value: reader.noun(JobStatus, value, "status"), given)
    )


def _object(reader: Reader, document: object) -> Any:
    if not isinstance(document, Mapping):
        return reader.refuse("", wrong_type(document, "a mapping"))
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return reader.refuse("kind", f"got {shown(kind)}, expected one of {', '.join(KINDS)}")
    _check_version(reader, document, API_VERSION)
    reader.refuse_unknown(document, _PARTS, "")
    noun, spec_type = KINDS[kind]
    metadata = _metadata(reader, document.get("metadata"))
    spec = reader.required(spec_type, document.get("spec"), "spec")
    return BAD if metadata is BAD or spec is BAD else noun(metadata, spec)


def _secret(reader: Reader, document: object) -> Any:
    if not isinstance(document, Mapping):
        return reader.refuse("", wrong_type(document, "a mapping"))
    _check_version(reader, document, "v1")
    reader.refuse_unknown(document, _SECRET_PARTS, "")
    metadata = _metadata(reader, document.get("metadata"))
    entries: dict[str, str] = {}
    for part in ("data", "stringData"):
        texts = document.get(part) or {}
        if not isinstance(texts, Mapping):
            reader.refuse(part, "got a value of another type, expected a mapping of texts")
            continue
        for key, text in texts.items():
            if not isinstance(key, str) or not isinstance(text, str):
                reader.refuse(
                    at(part, key), "got a value of another type, expected text: put it in quotes"
                )
            else:
                entries[key] = _decoded(reader, text, at(part, key)) if part == "data" else text
    return BAD if metadata is BAD else Secret(metadata, entries)


def _decoded(reader: Reader, text: str, path: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode(
            "utf-8", "surrogateescape"
        )
    except (binascii.Error, ValueError):
        reader.refuse(path, "not base64; plain text belongs into stringData")
        return ""


def _metadata(reader: Reader, document: object) -> Any:
    if isinstance(document, Mapping):
        document = {key: value for key, value in document.items() if key not in _OTHER_METADATA}
    return reader.required(ObjectMeta, document, "metadata")


def _check_version(reader: Reader, document: Mapping[Any, Any], expected: str) -> None:
    version = document.get("apiVersion")
    if version != expected:
        reader.refuse("apiVersion", f"got {shown(version)}, expected {expected!r}")
