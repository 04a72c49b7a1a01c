"""The names that tracking uses, and how any name or text is made fit for MLflow.

mlflow/README.md tells users the same in their words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from fedloom.tracking.tracker import DatasetDescription, JobDescription, Result

UID_TAG = "sedna.io/job-uid"
NAMESPACE_TAG = "sedna.io/namespace"
JOB_TAG = "sedna.io/job-name"
ROUND_TAG = "sedna.io/round"
DIGEST_TAG = "sedna.io/digest"
CLIENT_TAG = "sedna.io/client"
SIGNATURE_TAG = "sedna.io/tensor-signature"
URI_TAG = "sedna.io/uri"
ALLOWED_TAG = "fedloom.io/transfer-to"
"""Of a version that jobs of other namespaces may learn from: their namespaces, or *."""
PRIVACY_TAG = "privacy."
TRANSFER_TAG = "transfer."
CHANGED_TAG = "sedna.io/changed-parameters"

_KEY_LIMIT = 250
_PARAMETER_LIMIT = 6000
_LONG_TAG = 5000  # of a run's
_TAG_LIMIT = 500  # of a dataset's tag, the shortest of MLflow's limits
_DATASET_DIGEST_LIMIT = 36
_HIDDEN = "***"
_ADDRESS = re.compile(r"[a-z][\w+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@]*@")
_QUERY = re.compile(r"[?#][^?#]*=.*")
_SECRET_NAME = re.compile(
    r"(password|passwd|secret|credentials?|(api|access|secret|private)[-_.]?key|token)$",
    re.IGNORECASE,
)


def experiment_name(description: JobDescription) -> str:
    return f"{description.namespace}/{description.name}"


def job_tags(description: JobDescription) -> dict[str, str]:
    """Tags that say whose a run or a model is."""
    return {
        UID_TAG: description.uid,
        NAMESPACE_TAG: description.namespace,
        JOB_TAG: description.name,
    }


def run_tags(description: JobDescription) -> dict[str, str]:
    source = f"federatedlearningjob/{description.namespace}/{description.name}"
    return {
        "mlflow.source.type": "JOB",
        "mlflow.source.name": source,
        **job_tags(description),
    }


def model_tags(description: JobDescription, result: Result) -> dict[str, str]:
    return {
        **job_tags(description),
        ROUND_TAG: str(result["round"]),
        DIGEST_TAG: result["model"]["digest"],
    }


def privacy_tags(result: Result) -> dict[str, str]:
    """What a mistnet job's releases disclosed and where that is written; nothing for other jobs."""
    found = result.get("disclosure")
    if found is None:
        return {}
    places = {name: without_credentials(found[name]["uri"]) for name in ("report", "page")}
    words = {"summary": found["summary"], "warnings": " ".join(found["warnings"])}
    every = {**words, **found["figures"], **places}
    return {f"{PRIVACY_TAG}{name}": cut(str(value), _LONG_TAG) for name, value in every.items()}


def lineage_tags(source: Mapping[str, str] | None) -> dict[str, str]:
    """Where a job's first model came from: of its run, and of each of its models."""
    names = {"name": "source", "run_id": "source-run", "registered_model": "source-model"}
    names |= {"version": "source-version", "digest": "source-digest", "uri": "source-uri"}
    found = {} if source is None else {k: source[k] for k in names if source.get(k)}
    return {
        f"{TRANSFER_TAG}{names[key]}": cut(without_credentials(str(value)), _LONG_TAG)
        for key, value in found.items()
    }


def transfer_tags(result: Result) -> dict[str, str]:
    """What a job that learns from others began with, and why; nothing for other jobs and rounds."""
    found = result.get("transfer")
    if found is None:
        return {}
    words = {name: found[name] for name in ("mode", "choice", "kind", "reason", "message")}
    words["scores"] = json.dumps(found["scores"])
    words["unusable"] = json.dumps(found["unusable"])
    if found["epsilon"] is not None:
        words["epsilon"] = f"{found['epsilon']:.6g}"
    tags = {f"{TRANSFER_TAG}{name}": cut(str(value), _LONG_TAG) for name, value in words.items()}
    return tags | lineage_tags(found["source"])


def round_of(tags: Mapping[str, str]) -> tuple[str, str]:
    """Round and digest of a model that has these tags; empty words where it is none of ours."""
    return tags.get(ROUND_TAG, ""), tags.get(DIGEST_TAG, "")


def parameters(description: JobDescription) -> dict[str, str]:
    """The job's settings under legal keys; long values cut, what looks like a secret hidden."""
    found: dict[str, str] = {}
    for name, value in sorted({"rounds": description.rounds, **description.parameters}.items()):
        text = _HIDDEN if _SECRET_NAME.search(name) else without_credentials(str(value))
        found[free_key(name, found)] = cut(text, _PARAMETER_LIMIT)
    return found


def datasets(description: JobDescription) -> dict[tuple[str, str], dict[str, str]]:
    """(name, digest) of each source of data, once, with `source`, `mlflow.data.context`, `client`.

    Where the content's digest is not known the source's stands in, marked as such: MLflow wants one.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for dataset in description.datasets:
        source = without_credentials(dataset.source)
        entry = found.setdefault((cut(dataset.name, _KEY_LIMIT), _digest(dataset, source)), {})
        entry["source"] = source
        _append(entry, "mlflow.data.context", dataset.context)
        if dataset.client is not None:
            _append(entry, CLIENT_TAG, dataset.client)
    return found


def legal_key(name: str) -> str:
    """The name in MLflow's alphabet, every path of it in its simplest form, 250 characters at most."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in name.split("/")]
    parts = [part.replace(".", "_") if not part.strip(".") else part for part in parts if part]
    key = "/".join(parts) or "_"
    return key if len(key) <= _KEY_LIMIT else f"{key[: _KEY_LIMIT - 9]}-{_hash(name)}"


def free_key(name: str, taken: Mapping[str, object]) -> str:
    """The legal key of a name, told apart by a hash where another name has that key already."""
    key = legal_key(name)
    return key if key not in taken else f"{key[: _KEY_LIMIT - 9]}-{_hash(name)}"


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def without_credentials(text: str) -> str:
    """The text with `user:password@` and query strings (presigned signatures) of its URLs hidden."""
    return _ADDRESS.sub(lambda found: _bare(found[0]), text)


def _bare(address: str) -> str:
    return _QUERY.sub(f"?{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", address))


def _append(entry: dict[str, str], name: str, word: str) -> None:
    words = entry[name].split(", ") if name in entry else []
    if word not in words:
        entry[name] = cut(", ".join([*words, word]), _TAG_LIMIT)


def _digest(dataset: DatasetDescription, source: str) -> str:
    if dataset.digest:
        return dataset.digest.rpartition(":")[2][:_DATASET_DIGEST_LIMIT]
    return f"source-{_hash(source)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
