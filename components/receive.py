"""receive (edge, before train): bring the model that the client holds on its node up to date.

The client fetches the changes since the model it holds, or the whole model where that is less or it holds
none; what it built must have the digest of what the server says that clients hold. A cache that is missing
or damaged costs bytes, never a wrong model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.command import run_command
from components.edge_state import own_folder
from components.model_change import ChangeFile, layout_in
from components.request import Place, Request
from components.update_file import Encoding
from fedloom.algorithms.layout import BLOCK_ELEMENTS, TensorSpec
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter
from fedloom.artifacts.artifact import digest_of_file
from fedloom.errors import ArtifactError, CorruptArtifactError, UpdateError

_NAME = re.compile(r"model-(\d{4,})-([0-9a-f]{32})\.safetensors")
_COPY, _RECORD = "model.safetensors", "received.json"


@dataclass(frozen=True)
class Received:
    """The model that a client trains from.

    Attributes:
        path: of the model on the node; read-only.
        downlink_bytes: sizes of the objects that were fetched for it.
        notice: why the whole model was fetched though the client held one; empty as a rule.
    """

    path: Path
    downlink_bytes: int
    notice: str = ""

    def given_to(self, request: Request) -> Request:
        """Give the request of another step with the model's place beside its key and digest."""
        model = {**request.inputs["model"], "path": str(self.path)}
        return replace(request, inputs={**request.inputs, "model": model})

    def tell(self, report: dict[str, Any]) -> None:
        """Add to a client's report what was fetched, and why so much of it."""
        report["downlink_bytes"] += self.downlink_bytes
        if self.notice:
            report["message"] = "; ".join(filter(None, (report.get("message"), self.notice)))


def run(request: Request, place: Place) -> Received:
    """Give the model of the round, fetching as little as will do."""
    assert request.client is not None
    return _Receipt(request, place, own_folder(place.edge, request.client)).run()


class _Receipt:
    """One client brings its model up to date."""

    def __init__(self, request: Request, place: Place, folder: Path) -> None:
        self._request = request
        self._place = place
        self._folder = folder
        self._number = request.settings["model_round"]
        self._digest = request.inputs["model"]["digest"]
        self._draft = folder / "model.part"
        self._bytes = 0

    def run(self) -> Received:
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"model-{self._number:04d}-{_short(self._digest)}.safetensors"
        held = self._held()
        if target in held.values() and digest_of_file(target) == self._digest:
            return Received(target, 0)
        notice = self._build(held)
        for path in held.values():
            path.unlink(missing_ok=True)
        self._draft.replace(target)
        return Received(target, self._bytes, notice)

    def _build(self, held: Mapping[int, Path]) -> str:
        """Write the draft; say why by the longer way, if so."""
        problem = f"{held[self._number].name} is damaged" if self._number in held else ""
        numbers = self._chain(held)
        if numbers:
            try:
                self._catch_up(held.get(numbers[0] - 1), numbers)
            except (ArtifactError, UpdateError) as error:
                problem = str(error)
            else:
                return ""
        shutil.copyfile(self._fetch("model"), self._draft)
        return problem and f"no use of the model that was held, all of it was fetched: {problem}"

    def _chain(self, held: Mapping[int, Path]) -> list[int]:
        """Give the rounds whose changes lead here from what is held; none where the model is cheaper.

        The change of round 0 leads here from nothing.
        """
        offered, sizes = set(self._request.settings["changes"]), self._request.settings["sizes"]
        numbers: list[int] = []
        number = self._number
        while number not in held and number in offered:
            numbers.insert(0, number)
            number -= 1
        cost = sum(sizes[change_input(each)] for each in numbers)
        is_chain = number in held or number < 0
        return numbers if is_chain and cost < sizes["model"] else []

    def _catch_up(self, path: Path | None, numbers: list[int]) -> None:
        """Write the draft from the model at `path`, or from nothing, and the changes of these rounds."""
        with ExitStack() as stack:
            files = [stack.enter_context(ArrayFile(self._fetch(change_input(n)))) for n in numbers]
            old = None if path is None else stack.enter_context(ArrayFile(path))
            if old is not None:
                layout = {n: TensorSpec(info.shape, info.dtype) for n, info in old.tensors.items()}
            else:
                size_bytes = self._request.settings["sizes"]["model"]
                layout = dict(layout_in(files[0].metadata, size_bytes))
            changes = [
                ChangeFile(file, layout, self._encoding(number))
                for file, number in zip(files, numbers, strict=True)
            ]
            shapes = {name: (spec.dtype, spec.shape) for name, spec in layout.items()}
            writer = stack.enter_context(ArrayFileWriter(self._draft, shapes))
            for name, spec in layout.items():
                for start in range(0, spec.size, BLOCK_ELEMENTS):
                    values = np.zeros(min(BLOCK_ELEMENTS, spec.size - start), spec.dtype)
                    if old is not None:
                        old.read_into(name, start, values)
                    for change in changes:
                        values = change.apply(name, start, values)
                    writer.write(name, start, values)
            _, digest = writer.close()
        if digest != self._digest:
            before = "nothing" if path is None else path.name
            message = f"{before} and {len(numbers)} changes: got {digest}, expected {self._digest}"
            raise CorruptArtifactError(message)

    def _encoding(self, number: int) -> Encoding:
        settings = self._request.settings
        used = settings if number > 0 else settings["first"]
        return Encoding(used["codec"], used["parameters"], round=number)

    def _fetch(self, name: str) -> Path:
        artifact = self._request.inputs[name]
        self._bytes += self._request.settings["sizes"][name]
        folder = self._place.work / "models"
        return self._place.store.materialize(artifact["key"], folder, digest=artifact["digest"])

    def _held(self) -> dict[int, Path]:
        """Give the models that are held, by the round that they are of: one, as a rule."""
        found = ((_NAME.fullmatch(path.name), path) for path in sorted(self._folder.iterdir()))
        return {int(match[1]): path for match, path in found if match}


def change_input(number: int) -> str:
    """`change-0007`: under which name the change of round 7 is among the inputs."""
    return f"change-{number:04d}"


def received_of(work: Path) -> Received:
    """Give what the command left in the work folder, for `compress`.

    Raises UpdateError("NoModel") where it did not run.
    """
    try:
        document = json.loads((work / _RECORD).read_bytes())
    except FileNotFoundError:
        message = f"{work} has no {_RECORD}: expected components.receive to have run there"
        raise UpdateError("NoModel", message) from None
    return Received(Path(document["path"]), document["downlink_bytes"], document["notice"])


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]


def run_as_command(request: Request, place: Place) -> dict[str, Any]:
    """Leave the model as `model.safetensors` in the work folder, for the user's container."""
    place.work.mkdir(parents=True, exist_ok=True)
    received = run(request, place)
    shutil.copyfile(received.path, place.work / _COPY)
    told = {"downlink_bytes": received.downlink_bytes, "notice": received.notice}
    # Not the copy: the delta is against what the client was given, whatever its container does to that.
    (place.work / _RECORD).write_text(json.dumps({**told, "path": str(received.path)}))
    return told


if __name__ == "__main__":
    run_command("receive", run_as_command)
