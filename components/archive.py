"""Archives that come from elsewhere: opened without trusting a word of them.

Only plain files and folders come out, only below the folder that was asked for, and never more bytes than
its disk has left: a name that leaves it, a link, a device or a bomb refuses the whole archive. Nothing of
the archive's owners or rights is kept.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from fedloom.errors import JobError

SUFFIXES = (".zip", ".tar.gz", ".tgz")

_BLOCK_BYTES = 1 << 20
_RESERVE_BYTES = 64 << 20
_MOST_MEMBERS = 1_000_000
_ENCRYPTED = 1


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack into a folder that is there and empty; give the names at its top, sorted.

    Raises JobError: `BadArchive` for one that is damaged or wants what it must not, `DiskFull` for one
    with more than the disk has room for.
    """
    left = shutil.disk_usage(folder).free - _RESERVE_BYTES
    with _opened(archive) as opened, closing(opened) as members:
        for number, (name, file) in enumerate(members):
            if number >= _MOST_MEMBERS:
                raise _bad(archive, f"more than {_MOST_MEMBERS} members")
            target = folder / _checked(archive, name)
            if file is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            left = _copy(archive, file, target, left)
    return sorted(path.name for path in folder.iterdir())


Members = Generator[tuple[str, IO[bytes] | None], None, None]
"""The name and the content of each member; None for a folder."""


@contextmanager
def _opened(archive: Path) -> Iterator[Members]:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                yield _of_zip(archive, file)
        else:
            with tarfile.open(archive, "r:gz") as tar:
                yield _of_tar(archive, tar)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
        ValueError,
    ) as error:
        raise _bad(archive, f"{type(error).__name__}: {error}") from error
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise _bad(archive, f"two members in one place: {error.strerror}") from error
        if error.errno is None:  # gzip's own words for a file that is none
            raise _bad(archive, str(error)) from error
        raise


def _of_zip(archive: Path, file: zipfile.ZipFile) -> Members:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _bad(archive, f"{info.filename!r}, which is neither a file nor a folder")
        if info.flag_bits & _ENCRYPTED:
            raise _bad(archive, f"{info.filename!r}, which is encrypted")
        if info.is_dir():
            yield info.filename, None
        else:
            with file.open(info) as content:
                yield info.filename, content


def _of_tar(archive: Path, tar: tarfile.TarFile) -> Members:
    for info in tar:
        if info.isdir():
            yield info.name, None
            continue
        if not info.isreg():
            raise _bad(archive, f"{info.name!r}, which is neither a file nor a folder")
        content = tar.extractfile(info)
        assert content is not None
        with content:
            yield info.name, content


def _checked(archive: Path, name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    is_absolute = name.startswith(("/", "\\")) or (parts and ":" in parts[0])
    if is_absolute or ".." in parts or "\0" in name:
        raise _bad(archive, f"{name[:80]!r}, which leads out of its folder")
    return "/".join(parts)


def _copy(archive: Path, file: IO[bytes], target: Path, left: int) -> int:
    with target.open("xb") as out:
        while block := file.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise JobError(
                    "DiskFull", f"{archive.name}: what it holds is more than the disk has room for"
                )
            out.write(block)
    return left


def _bad(archive: Path, what: str) -> JobError:
    return JobError("BadArchive", f"{archive.name}: got {what}; expected files and folders only")
