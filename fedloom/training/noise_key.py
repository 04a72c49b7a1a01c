"""The noise key of an edge: 32 random bytes, made once on the node, never sent anywhere.

The file is its owner's alone (mode 0600) and appears whole or not at all; of two processes that make
it at once, one wins and the other one uses that.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fedloom.artifacts.files import disk_error, remove_if_there, sync_folder
from fedloom.errors import JobError
from fedloom.keys.agreement import KEY_BYTES
from fedloom.keys.noise import NoiseKey

_NAME = "noise-key"


def noise_key(folder: Path) -> NoiseKey:
    """Give the key that is kept in a folder of the edge, made there if there is none.

    Raises:
        JobError: `KeyExposed` where others may read it, `InvalidKey` where it is no key: a new one is
            not made in its place, since all that was released under it would be released anew.
    """
    path = folder / _NAME
    try:
        if not os.path.lexists(path):
            _make(folder, path)
        return NoiseKey(_read(path))
    except OSError as error:
        raise disk_error(error, path) from error


def _make(folder: Path, path: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = f"{path}.{os.urandom(8).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # as O_EXCL does, it fails where there is one, and it is whole
    except FileExistsError:
        return  # another process was first: its key is the key
    finally:
        remove_if_there(temporary)
    sync_folder(os.fspath(folder))


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise JobError(
                "KeyExposed",
                f"{path}: got mode {stat.filemode(state.st_mode)}, expected -rw------- : others on "
                "this node may have read the key; chmod 600 it if they have not",
            )
        return file.read(KEY_BYTES + 1)
