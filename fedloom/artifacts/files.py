"""Files on this machine's disk that appear whole or not at all, and clear words for its errors."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from fedloom.artifacts.store import TEMPORARY_PREFIX
from fedloom.errors import CorruptArtifactError, FedloomError, JobError, StoreUnavailableError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT}
_CONFLICT = {errno.ENOTDIR, errno.EISDIR}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class NewFile:
    """A file being written under a temporary name beside its target.

    Used in a `with` block: `publish` gives it its name; leaving the block without that, by an
    exception or not, leaves nothing behind. Missing parent folders are made. Errors of the disk
    leave the block as the errors of `disk_error`. `descriptor` may be written with `os.pwrite`.
    """

    __slots__ = ("_needed_bytes", "_temporary", "descriptor", "target")

    def __init__(self, target: str, needed_bytes: int = 0) -> None:
        self.target = target
        self._needed_bytes = needed_bytes
        folder = os.path.dirname(target) or "."
        self._temporary = f"{folder}/{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                self.descriptor = os.open(self._temporary, flags, 0o666)
            except FileNotFoundError:
                os.makedirs(folder, exist_ok=True)
                self.descriptor = os.open(self._temporary, flags, 0o666)
        except OSError as error:
            raise disk_error(error, target, needed_bytes) from error

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()
        if isinstance(error, OSError):
            raise disk_error(error, self.target, self._needed_bytes) from error

    def write(self, data: bytes | memoryview) -> None:
        """Append these bytes."""
        written = os.write(self.descriptor, data)
        if written != len(data):  # a full disk or a block above 2 GiB
            rest = memoryview(data).cast("B")[written:]
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def publish(self, *, replace: bool, durable: bool = False) -> bool:
        """Give the file its name; False if there is one already and `replace` is not set."""
        if durable:
            os.fsync(self.descriptor)
        if replace:
            os.replace(self._temporary, self.target)
            self._temporary = ""
        elif not self._link():
            return False
        if durable:
            sync_folder(os.path.dirname(self.target) or ".")
        return True

    def _link(self) -> bool:
        # A hard link is the one way to name a file that fails if the name is taken: two writers of
        # one key cannot both win. Disks without links (FAT, some FUSE) get the racy two steps.
        try:
            os.link(self._temporary, self.target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self.target):
                return False
            os.replace(self._temporary, self.target)
            self._temporary = ""
        return True

    def discard(self) -> None:
        """Close; remove the temporary name if it is still there."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self._temporary:
            remove_if_there(self._temporary)
            self._temporary = ""


def remove_if_there(path: str) -> None:
    """Unlink a file; a missing one is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def sync_folder(folder: str) -> None:
    """Make the names in a folder, and the folder's own name, survive a loss of power."""
    for path in (folder, os.path.dirname(folder) or "."):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_at(descriptor: int, offset: int, out: memoryview, place: str) -> None:
    """Fill `out` (bytes) from `offset` of an open file; a short file is CorruptArtifactError.

    The file position is neither used nor moved, so threads may share a descriptor.
    """
    wanted = len(out)
    while out:
        count = os.preadv(descriptor, [out], offset)
        if count == 0:
            got = wanted - len(out)
            raise CorruptArtifactError(
                f"{place}: the file ended early: got {got} bytes, expected {wanted} bytes "
                f"up to offset {offset + len(out)}"
            )
        out, offset = out[count:], offset + count


def disk_error(error: OSError, path: str | os.PathLike[str], needed_bytes: int = 0) -> FedloomError:
    """An operating system's error about `path` as one of ours, saying what to do about it."""
    path = os.fspath(path)
    number, words = error.errno or 0, error.strerror or str(error)
    if number in _FULL:
        return JobError(
            "StoreFull",
            f"no room in {os.path.dirname(path)} for {os.path.basename(path)}: needs "
            f"{needed_bytes} bytes, {_free_bytes(path)} are free ({words}); "
            "make room there or choose another folder",
        )
    if number in _DENIED:
        return JobError(
            "StoreDenied",
            f"{path}: {words}; give this user the right to read and write there "
            "or choose another folder",
        )
    if number in _CONFLICT:
        return JobError(
            "KeyConflict", f"{path}: {words}; one key cannot be a file and another one's folder"
        )
    if number in _PASSING:
        return StoreUnavailableError(f"{path}: {words}")
    return JobError("StoreFailed", f"{path}: {words} (error {number})")


def _free_bytes(path: str) -> str:
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        state = os.statvfs(folder or ".")
    except OSError:
        return "an unknown number"
    return str(state.f_bavail * state.f_frsize)
