"""The inner rounds of a workflow that goes through all of a job's rounds by itself: updates in, models out.

An update lies in the work folder as soon as it is read; it is opened again, block by block, when its round
is combined.
`inner_records` says what was done. A process that starts anew goes on behind the last of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.aggregated import Aggregated
from components.inner_records import InnerRecords
from components.request import Place, Request
from components.websocket_gathering import Answer, Failures
from components.websocket_messages import UpdateWeight
from components.websocket_weights import arrays_of, weights_text
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.registry import aggregator
from fedloom.algorithms.aggregation.weights import weigh
from fedloom.algorithms.layout import Array, Layout, TensorSpec, check_layout
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter, dump_arrays
from fedloom.artifacts.artifact import Artifact, digest_of
from fedloom.errors import JobError, UpdateError

_INT64 = np.dtype(np.int64)


class TooFewUpdatesError(JobError):
    """An inner round that cannot have enough updates; `failures` says why, client by client."""

    def __init__(self, number: int, got: int, least: int, failures: Failures) -> None:
        named = [f"{c}: {why['reason']} ({why['message']})" for c, why in sorted(failures.items())]
        more = f"; and {len(named) - 5} more" if len(named) > 5 else ""
        super().__init__(
            "TooFewClients",
            f"inner round {number} needs {least} updates (spec.participation.minClients), got {got}. "
            f"{'; '.join(named[:5])}{more}",
        )
        self.failures = failures


@dataclass(frozen=True)
class Combined:
    """What an inner round gives its clients: `weights` as JSON text, made from `num_examples`."""

    number: int
    weights: bytes
    num_examples: int


class InnerRounds:
    """Keeps the updates of one attempt, combines them, and remembers what was done."""

    def __init__(self, request: Request, place: Place) -> None:
        self._request = request
        self._place = place
        self._folder = place.work / "inner"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._cohort = sorted(request.settings["workers"].values())
        self._kept = 0
        self._records = InnerRecords(request, place.store)

    @property
    def done(self) -> int:
        """How many inner rounds have a model."""
        return len(self._records.all)

    def keep(self, client: str, update: UpdateWeight, uplink_bytes: int, seconds: float) -> Answer:
        """Check an update and put it into the work folder. Raises UpdateError.

        The lists of `update` are taken out of it, so that no tensor is there twice for long.
        """
        data = dump_arrays(arrays_of(update.weights))
        self._kept += 1
        path = self._folder / f"{client}-{self._kept}.safetensors"
        path.write_bytes(data)
        return Answer(update.num_examples, str(path), digest_of(data), uplink_bytes, seconds)

    def combine(self, answers: Mapping[str, Answer], failures: Failures) -> Combined:
        """Combine the round's updates, store model and record, and give what goes back.

        Raises TooFewUpdatesError, or JobError for what the rule cannot do.
        """
        number, started = self.done + 1, time.time()
        good = {client: answer for client, answer in answers.items() if answer.is_good}
        with ExitStack() as stack:
            files = {c: stack.enter_context(ArrayFile(a.path)) for c, a in sorted(good.items())}
            layout, refused = self._common_layout(files, stack)
            failures = dict(sorted((failures | refused).items()))
            files = {client: file for client, file in files.items() if client not in refused}
            if len(files) < self._request.settings["min_clients"] or not files:
                least = self._request.settings["min_clients"]
                raise TooFewUpdatesError(number, len(files), least, failures)
            model = self._combined(number, layout, files, good)
        self._drop(answers)
        weights = self._text(model)
        accepted = {client: good[client] for client in files}
        seconds = {"finished": time.time(), "seconds": round(time.time() - started, 6)}
        made = {"model": asdict(model), "downlink_bytes": len(weights)}
        self._records.add({**seconds, **made, "failures": failures}, accepted)
        return Combined(number, weights, sum(a.num_examples for a in accepted.values()))

    def last_combined(self) -> Combined | None:
        """Give the last inner round's weights once more; None before the first."""
        if not self._records.all:
            return None
        record = self._records.all[-1]
        examples = sum(client["num_examples"] for client in record["clients"].values())
        return Combined(self.done, self._text(_artifact(record)), examples)

    def finished(self) -> Aggregated:
        """Give the last model as the round's, with what every inner round was like."""
        last = self._records.all[-1]
        path = self._materialized(_artifact(last))
        key = self._request.outputs["model"]
        model = self._place.store.put_file(key, path, replace=True)
        found = self.found(last["failures"])
        return replace(found, model=model)

    def found(self, failures: Failures) -> Aggregated:
        """Give what is known of the clients; the reports are of those that `failures` does not name."""
        reports = self._records.reports(self._request.settings["nodes"])
        reports = {name: report for name, report in reports.items() if name not in failures}
        return Aggregated(reports, failures, inner=list(self._records.all))

    def _common_layout(
        self, files: Mapping[str, ArrayFile], stack: ExitStack
    ) -> tuple[Layout, Failures]:
        """Give the model's layout, and why some updates do not fit it.

        Shapes are the last model's; before the first model, those that most clients have, and of
        equally many those of the first by name.
        """
        if not files:
            return {}, {}
        shapes = {client: _shapes(file) for client, file in files.items()}
        if self._records.all:
            last = ArrayFile(self._materialized(_artifact(self._records.all[-1])))
            expected = _shapes(stack.enter_context(last))
        else:
            expected = Counter(shapes.values()).most_common(1)[0][0]
        fitting = [file for client, file in files.items() if shapes[client] == expected]
        layout = {name: TensorSpec(shape, _dtype(name, fitting)) for name, shape in expected}
        refused: Failures = {}
        for client in files:
            try:
                got = {
                    n: TensorSpec(s, layout[n].dtype if n in layout else _INT64)
                    for n, s in shapes[client]
                }
                check_layout(layout, got)
            except UpdateError as error:
                refused[client] = {"reason": error.reason, "message": error.message}
        return layout, refused

    def _combined(
        self,
        number: int,
        layout: Layout,
        files: Mapping[str, ArrayFile],
        good: Mapping[str, Answer],
    ) -> Artifact:
        settings = self._request.settings["aggregation"]
        positions = tuple(self._cohort.index(client) for client in files)
        rule: Aggregator = Mean(positions)
        if settings["rule"] != "mean":
            rule = aggregator(settings["rule"], settings["parameters"])
        examples = [good[client].num_examples for client in files]
        weights = weigh(settings["weights"], examples, examples).values
        path = self._folder / f"model-{number}.safetensors"
        shapes = {name: (spec.dtype, spec.shape) for name, spec in layout.items()}
        with ArrayFileWriter(path, shapes) as writer:
            sources = [_FileSource(file) for file in files.values()]
            for block in rule.aggregate(sources, weights, layout):
                if not np.isfinite(block.values).all():
                    message = (
                        f"tensor {block.name!r} of inner round {number} overflows to NaN or Inf"
                    )
                    raise JobError("ModelNotFinite", message)
                writer.write(
                    block.name, block.start, to_dtype(block.values, layout[block.name].dtype)
                )
            writer.close()
        # A draft until its record names it.
        key = self._records.key(number, "model.safetensors")
        stored = self._place.store.put_file(key, path, replace=True)
        path.unlink()
        return stored

    def _materialized(self, model: Artifact) -> Path:
        folder = self._place.work / "models"
        return self._place.store.materialize(model.key, folder, digest=model.digest)

    def _text(self, model: Artifact) -> bytes:
        with ArrayFile(self._materialized(model)) as file:
            return weights_text(file.read(name) for name in sorted(file.tensors, key=int))

    def _drop(self, answers: Mapping[str, Answer]) -> None:
        for answer in answers.values():
            if answer.path:
                Path(answer.path).unlink(missing_ok=True)


class _FileSource:
    """A client's weights as an `UpdateSource`, whatever kind of numbers it sent."""

    def __init__(self, file: ArrayFile) -> None:
        self._file = file

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        own = self._file.tensors[name].dtype
        if own == scratch.dtype:
            self._file.read_into(name, start, scratch[: stop - start])
        else:
            values: Array = np.empty(stop - start, own)
            self._file.read_into(name, start, values)
            np.copyto(scratch[: stop - start], values, casting="same_kind")
        return scratch[: stop - start]


def _shapes(file: ArrayFile) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, file.tensors[name].shape) for name in sorted(file.tensors))


def _dtype(name: str, files: list[ArrayFile]) -> np.dtype[Any]:
    """Integers where all clients sent some; else float32 where all fractions of all clients are."""
    if all(file.tensors[name].dtype.kind == "i" for file in files):
        return _INT64
    every = {info.dtype for file in files for info in file.tensors.values()}
    return np.dtype(np.float64 if np.dtype(np.float64) in every else np.float32)


def _artifact(record: Mapping[str, Any]) -> Artifact:
    return Artifact(**record["model"])
