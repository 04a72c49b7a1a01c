"""What a release has to say that stays on its edge: which images it could not use, and why.

Names of files, and what errors say of them, tell of images. They go into a file of the node, beside its
ledger; what leaves is a reason, how often it came, and a line of code.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from fedloom.artifacts.files import disk_error
from fedloom.errors import JobError, UpdateError
from fedloom.training.split import BAD_EXAMPLE


class Journal:
    """The journal of an edge's last release, for the edge alone (mode 0600); a new release begins it anew.

    Args:
        state: the folder of the edge's key and ledger.
        edge: the client's name.
    """

    def __init__(self, state: Path, edge: str) -> None:
        self._path = state / f"release-{quote(edge, safe='')}.log"
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write("", os.O_TRUNC)
        except OSError as error:
            raise disk_error(error, self._path) from error

    @property
    def name(self) -> str:
        """Of its file; it may leave the edge."""
        return self._path.name

    def note(self, text: str) -> None:
        """Write a line or more."""
        self._write(f"{text.rstrip()}\n", os.O_APPEND)

    @contextmanager
    def discreet(self, doing: str) -> Iterator[None]:
        """Around a call of the user's model: what it raises is noted, and its reason alone goes on.

        That an image cannot be used (BAD_EXAMPLE), and that there is no memory, go on as they are.

        Args:
            doing: what is done, in words that may leave the edge.

        Raises:
            UpdateError: by the error's own reason; `ScriptFailed` where it has none.
        """
        try:
            yield
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            reason = error.reason if isinstance(error, JobError) else "ScriptFailed"
            if reason == BAD_EXAMPLE:
                raise
            self.note(f"{doing}:\n{''.join(traceback.format_exception(error))}")
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)} line {frame.lineno}"
            message = (
                f"{doing}: {type(error).__name__} in {where}; more is in {self.name} on the edge"
            )
            raise UpdateError(reason, message) from None

    def _write(self, text: str, how: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | how
        descriptor = os.open(self._path, flags, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
