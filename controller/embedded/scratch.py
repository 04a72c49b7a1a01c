"""Where updates of the running round wait: small ones in memory, others under the state folder."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from controller.embedded.state import StateFolder

_MEMORY = Path("/dev/shm")  # noqa: S108  a file system in memory; absent outside Linux
_NAME = "fedloom-{uid}-{pid}"
_MEMORY_BYTES = 64 * 1024 * 1024  # of all updates of a round together


def scratch_of(state: StateFolder) -> dict[str, Any]:
    """Describe the scratch of this process's run; see `components.connection`."""
    disk = state.work / "updates"
    memory = memory_folder()
    return {
        "memory": str(memory if memory is not None else disk),
        "disk": str(disk),
        "memory_limit_bytes": _MEMORY_BYTES // len(state.job.spec.training_workers),
    }


@cache
def memory_folder() -> Path | None:
    """This process's folder in memory; None where the system offers none, or not enough of it."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < 2 * _MEMORY_BYTES:
        return None
    return _MEMORY / _NAME.format(uid=os.getuid(), pid=os.getpid())


def clear_memory() -> None:
    """Remove this process's folder, and those that killed runs of this user left behind."""
    own = memory_folder()
    if own is None:
        return
    for folder in _MEMORY.glob(_NAME.format(uid=os.getuid(), pid="*")):
        if folder == own or not _is_running(folder.name.rpartition("-")[2]):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
