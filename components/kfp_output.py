"""What a task tells Kubeflow Pipelines beside its exit code: metrics, a page, a model, parameters.

The launcher hands a container its executor input (`{{$}}`), a JSON that names where its outputs go, and
reads the executor output that the container leaves at `outputs.outputFile`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import JobError

_FOLDERS = {"gs": "gcs", "minio": "minio", "s3": "s3"}
_SCALARS = (str, bool, int, float)


class ExecutorOutput:
    """The outputs of one task; nothing is said before `write`.

    Args:
        text: the executor input as JSON; empty where the task does not run in a pipeline.

    Raises JobError("BadExecutorInput") for anything else.
    """

    def __init__(self, text: str) -> None:
        try:
            outputs = json.loads(text)["outputs"] if text else {}
            self._file = outputs.get("outputFile")
            self._artifacts = {
                name: found["artifacts"][0] for name, found in outputs.get("artifacts", {}).items()
            }
            self._parameter_files = {
                name: found["outputFile"] for name, found in outputs.get("parameters", {}).items()
            }
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise JobError(
                "BadExecutorInput",
                f"--executor-input: got {text[:60]!r} ({type(error).__name__}), expected the JSON that "
                "Kubeflow Pipelines puts for {{$}}",
            ) from None
        self._metadata: dict[str, dict[str, Any]] = {}
        self._parameters: dict[str, Any] = {}

    def path_of(self, artifact: str) -> Path | None:
        """Give where the content of an output artifact goes, its folder made; None without such one."""
        if artifact not in self._artifacts:
            return None
        path = _local_path(str(self._artifacts[artifact].get("uri", "")))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def describe(self, artifact: str, metadata: Mapping[str, Any]) -> None:
        """Say something of an output artifact; what is no plain finite value is left out."""
        plain = {name: value for name, value in metadata.items() if _is_plain(value)}
        self._metadata.setdefault(artifact, {}).update(plain)

    @property
    def parameters(self) -> list[str]:
        """The names of the output parameters that the pipeline waits for."""
        return sorted(self._parameter_files)

    def give(self, parameter: str, value: Any) -> None:
        """Set an output parameter: a text, or plain JSON values."""
        self._parameters[parameter] = value

    def write(self) -> None:
        """Leave the executor output; nothing where the task does not run in a pipeline."""
        for name, file in self._parameter_files.items():
            if name in self._parameters:
                value = self._parameters[name]
                _write(Path(file), value if isinstance(value, str) else json.dumps(value))
        if self._file is None:
            return
        artifacts = {
            name: {"artifacts": [self._artifact(name, given)]}
            for name, given in self._artifacts.items()
        }
        document = {"artifacts": artifacts, "parameterValues": self._parameters}
        _write(Path(self._file), json.dumps(document))

    def _artifact(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**given.get("metadata", {}), **self._metadata.get(name, {})}
        return {"name": given.get("name", name), "uri": given.get("uri", ""), "metadata": metadata}


def _local_path(uri: str) -> Path:
    """Give the file that the launcher uploads to this address; a plain path is itself."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return Path(uri)
    if scheme not in _FOLDERS:
        raise JobError(
            "BadExecutorInput", f"got the artifact {uri!r}, expected one of gs://, minio://, s3://"
        )
    return Path("/", _FOLDERS[scheme], rest)


def _is_plain(value: object) -> bool:
    return isinstance(value, _SCALARS) and not (
        isinstance(value, float) and not math.isfinite(value)
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
