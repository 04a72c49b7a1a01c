"""A finished model outside the job's store: what its file is called there, and in which format it is.

output/m.safetensors    as it is
output/m.npz            numpy's archive of the same arrays
output/m                a folder: output/m/<name of the Model>.safetensors
output/m.pth            output/m.pth.safetensors: formats that hold code of a framework are not written,
                        and no file says by its name that it is what it is not
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from fedloom.artifacts.files import NewFile
from fedloom.errors import JobError

SAFETENSORS, NPZ = ".safetensors", ".npz"

_COPY_BYTES = 1 << 20


def file_for(url: str, name: str) -> str:
    """Give the path or url of the file that a Model's url means; `name` is the Model's."""
    url = url.rstrip("/")
    suffix = PurePosixPath(url).suffix.lower()
    if suffix in (SAFETENSORS, NPZ):
        return url
    return f"{url}/{name}{SAFETENSORS}" if not suffix else url + SAFETENSORS


def is_another(url: str, name: str) -> bool:
    """Whether that file is called otherwise than the url says."""
    return file_for(url, name) != url


def write_as(model: Path, target: Path) -> None:
    """Write a safetensors file as what the target's name says; whole or not at all.

    Raises JobError or StoreUnavailableError with what the disk says.
    """
    with NewFile(str(target)) as file:
        if target.suffix.lower() == NPZ:
            _write_npz(model, cast("IO[bytes]", _Sequential(file)))
        else:
            with model.open("rb") as source:
                while block := source.read(_COPY_BYTES):
                    file.write(block)
        file.publish(replace=True, durable=True)


def _write_npz(model: Path, out: IO[bytes]) -> None:
    import numpy as np  # of no concern to most models

    from fedloom.artifacts.arrays import load_arrays

    arrays: dict[str, Any] = dict(load_arrays(model)[0])
    odd = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    if odd:
        raise JobError("ModelFormat", f"tensor {odd[0]!r}: numpy has no {arrays[odd[0]].dtype}")
    if "file" in arrays:  # the one name that savez keeps for itself
        raise JobError("ModelFormat", "tensor 'file': numpy's archive cannot hold that name")
    np.savez(out, **arrays)


class _Sequential:
    """A file that is only ever written on: zip archives can be made that way."""

    def __init__(self, file: NewFile) -> None:
        self._file = file
        self._place = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """Everything is written at once."""

    def seek(self, *_: int) -> int:
        raise OSError("this file is written from its beginning to its end")

    def read(self, *_: int) -> bytes:
        raise OSError("this file is not read")
