"""The state of one client on its node, kept in step with the rounds that accepted its updates.

`<edge>/<client>/` holds `committed/` and at most one `pending-<digest>/`. A round works in a copy; the
copy is named after the update it belongs to and becomes `committed` only when a later round says that this
update was accepted. A dropped update, a killed run and a retried round therefore leave the state of the
last accepted round, and repeating a round starts from the same bytes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_WORKING = "working"


class EdgeState:
    """Edge state of one client.

    Use: `folder = begin(accepted)` before training, `finish(digest)` after the update is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._committed = folder / "committed"

    def begin(self, accepted: str | None) -> Path:
        """Settle the past and give the folder to work in.

        `accepted` is the digest of the client's last update that a round accepted, or None.
        """
        working = self._folder / _WORKING
        if not self._is_stateless():
            self._settle(accepted)
        if self._committed.exists():
            shutil.copytree(self._committed, working)
        else:
            working.mkdir(parents=True, exist_ok=True)
        return working

    def finish(self, digest: str) -> None:
        """Keep the working folder until it is known whether the update `digest` was accepted."""
        working = self._folder / _WORKING
        if not self._is_stateless():
            working.rename(self._folder / _pending(digest))

    def _is_stateless(self) -> bool:
        """Most scripts keep no state: then there is only an empty working folder, used again."""
        try:
            return os.listdir(self._folder) == [_WORKING] and not os.listdir(
                self._folder / _WORKING
            )
        except FileNotFoundError:
            return False

    def _settle(self, accepted: str | None) -> None:
        for entry in list(self._folder.iterdir()) if self._folder.exists() else []:
            if accepted is not None and entry.name == _pending(accepted):
                _remove(self._committed)
                entry.rename(self._committed)
            elif entry != self._committed:
                _remove(entry)


def _pending(digest: str) -> str:
    return f"pending-{digest.removeprefix('sha256:')[:32]}"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
