"""The state of one client on its node, kept in step with the rounds that accepted its updates.

`<edge>/<client>/` holds `committed/` and at most one `pending-<digest>/`, and in `fedloom/`, apart from
what the client's script keeps, the residual and the model that the client holds. A round works in a copy; the
copy is named after the update it belongs to and becomes `committed` only when a later round says that
this update was accepted. A dropped update, a killed run and a retried round therefore leave the state of
the last accepted round, and repeating a round starts from the same bytes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_WORKING, _COMMITTED, _OWN = "working", "committed", "fedloom"


def own_folder(edge: Path, client: str) -> Path:
    """Give the folder of what Fedloom itself keeps on the node for this client; it may not exist yet."""
    return edge / client / _OWN


class EdgeState:
    """Edge state of one client.

    Use: `folder = begin(accepted)` before training, `finish(digest)` after the update is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.fspath(folder)
        self.working = folder / _WORKING

    def begin(self, accepted: str | None) -> Path:
        """Settle the past and give the folder to work in.

        `accepted` is the digest of the client's last update that a round accepted, or None.
        """
        entries = self._entries()
        if entries == [_WORKING] and self._is_untouched():
            return self.working
        for name in entries:
            if name not in (_COMMITTED, _pending(accepted)):
                shutil.rmtree(self._path(name))
        if _pending(accepted) in entries:
            if _COMMITTED in entries:
                shutil.rmtree(self._path(_COMMITTED))
            os.rename(self._path(_pending(accepted)), self._path(_COMMITTED))
            entries.append(_COMMITTED)
        if _COMMITTED in entries:
            shutil.copytree(self._path(_COMMITTED), self.working)
        else:
            self.working.mkdir(parents=True)
        return self.working

    def finish(self, digest: str) -> None:
        """Keep the working folder until it is known whether the update `digest` was accepted.

        Most scripts keep no state: their empty working folder stays and is used again.
        """
        entries = self._entries()
        if _WORKING in entries and (_COMMITTED in entries or not self._is_untouched()):
            os.rename(self._path(_WORKING), self._path(_pending(digest)))

    def _is_untouched(self) -> bool:
        return not os.listdir(self._path(_WORKING))

    def _entries(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name != _OWN]
        except FileNotFoundError:
            return []

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _pending(digest: str | None) -> str:
    return f"pending-{(digest or 'none').removeprefix('sha256:')[:32]}"
