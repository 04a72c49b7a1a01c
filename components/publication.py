"""What of one job has been published, what waits, and the one next thing to do about it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedloom.errors import ArtifactNotFoundError
from fedloom.tracking.tracker import JobDescription, Result, Run, Status, Tracker

Event = dict[str, Any]


class Progress:
    """The state file: what is in MLflow already, for this job and this MLflow.

    Losing it costs time, nothing else: what is logged again is stored once.

    Attributes:
        run_id: of the run all this was logged in; empty before the first.
        recorded_through: the last round whose metrics are logged; -1 before the first.
        complete_through: the last round that need not be passed again.
        registered: version by round.
    """

    run_id: str
    recorded_through: int
    complete_through: int
    registered: dict[int, str]

    def __init__(self, path: Path, uid: str, tracking_uri: str) -> None:
        self._path = path
        # A digest, because a URI may hold a password.
        self._target = f"{uid} {hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]}"
        self._reset("")
        try:
            found = json.loads(path.read_bytes())
            if found["target"] == self._target:
                self.run_id = str(found["run_id"])
                self.recorded_through = int(found["recorded_through"])
                self.complete_through = int(found["complete_through"])
                self.registered = {int(n): str(v) for n, v in found["registered"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"publish: {path} is left aside: {error!r}", file=sys.stderr)

    def belongs_to(self, run_id: str) -> None:
        """Forget everything unless it was logged in this run."""
        if self.run_id != run_id:
            self._reset(run_id)

    def save(self) -> None:
        """Write the file whole or not at all."""
        value = {
            "target": self._target,
            "run_id": self.run_id,
            "recorded_through": self.recorded_through,
            "complete_through": self.complete_through,
            "registered": {str(n): version for n, version in sorted(self.registered.items())},
        }
        temporary = self._path.with_name(f".{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(value))
            temporary.replace(self._path)
        except OSError as error:
            print(f"publish: {self._path} cannot be written: {error}", file=sys.stderr)

    def _reset(self, run_id: str) -> None:
        self.run_id = run_id
        self.recorded_through = -1
        self.complete_through = -1
        self.registered = {}


class Publication:
    """The rounds of one job on their way into a tracker.

    `open_tracker` is called when the first thing is to be done and, after it failed, again.
    """

    def __init__(
        self,
        description: JobDescription,
        open_tracker: Callable[[], Tracker],
        progress: Progress,
        tell: Callable[[Event], None],
    ) -> None:
        self._description = description
        self._open_tracker = open_tracker
        self._tracker: Tracker | None = None
        self._run: Run | None = None
        self._progress = progress
        self._tell = tell
        self._waiting: list[Result] = []
        self._models: dict[int, tuple[Result, Path]] = {}
        self._lost: set[int] = set()  # their files were not there
        self._is_final = False
        self._champion: Result | None = None

    @property
    def pending_rounds(self) -> int:
        """How many rounds at hand are not wholly in MLflow."""
        rounds = {result["round"] for result in self._waiting}
        owed = self._unregistered() if self._registers_every or self._is_final else set()
        return len(rounds | owed)

    def take(self, result: Result, model_file: Path | None) -> None:
        """Take in a committed round; rounds come ascending."""
        self._waiting.append(result)
        before = [] if self._champion is None else [self._champion]
        self._champion = self._description.champion([*before, result])
        if model_file is None or self._description.registered_model is None:
            return
        if self._registers_every:
            if result["round"] > 0:
                self._models[result["round"]] = (result, model_file)
        elif self._champion is result:
            self._models = {result["round"]: (result, model_file)}

    def advance(self, *, with_models: bool = True) -> bool:
        """Do the next thing; say whether there is another.

        Raises TrackingUnavailableError and can then be called again.
        """
        tracker = self._begun()
        if self._waiting:
            tracker.record(self._waiting)
            self._progress.recorded_through = self._waiting[-1]["round"]
            self._waiting = []
            self._save()
            self._tell({"event": "recorded", "round": self._progress.recorded_through})
        if not (with_models and self._registers_every):
            return False
        ready = self._unregistered() - self._lost
        if ready:
            self._register(tracker, min(ready))
        return len(ready) > 1

    def finish(self, status: Status) -> None:
        """End the run. A job that was only interrupted registers its one model when it ends for good."""
        tracker = self._begun()
        self._is_final = status != "KILLED"
        champion = self._champion["round"] if self._champion and self._is_final else None
        if champion in self._unregistered():
            self._register(tracker, champion)
        tracker.finish(status, champion)

    @property
    def _registers_every(self) -> bool:
        return self._description.save_policy == "every"

    def _unregistered(self) -> set[int]:
        if self._run is not None:  # now it is known what this run has
            for number in self._models.keys() & self._progress.registered.keys():
                del self._models[number]
        return set(self._models)

    def _begun(self) -> Tracker:
        if self._tracker is None:
            self._tracker = self._open_tracker()
        if self._run is None:
            self._run = self._tracker.begin(self._description)
            self._progress.belongs_to(self._run.run_id)
            event = {
                "event": "tracking",
                "experiment_id": self._run.experiment_id,
                "run_id": self._run.run_id,
                "url": self._run.url,
                "recorded_through": self._progress.complete_through,
            }
            self._tell(event)
        known = self._progress.recorded_through
        self._waiting = [result for result in self._waiting if result["round"] > known]
        return self._tracker

    def _register(self, tracker: Tracker, number: int) -> None:
        result, model_file = self._models[number]
        try:
            version = tracker.register(result, model_file)
        except ArtifactNotFoundError as error:  # nothing to try again until it is passed again
            print(f"publish: round {number} is not registered: {error}", file=sys.stderr)
            self._lost.add(number)
            return
        self._progress.registered[number] = version
        self._save()
        self._tell({"event": "registered", "round": number, "version": version})

    def _save(self) -> None:
        recorded = self._progress.recorded_through
        # A model that is not registered has to be passed again.
        self._progress.complete_through = min(
            [recorded, *(number - 1 for number in self._unregistered())]
        )
        self._progress.save()
