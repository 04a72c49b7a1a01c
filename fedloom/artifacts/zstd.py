"""The one door to Zstandard: whole frames, whose content is of a length that is known beforehand.

Format: RFC 8878. A frame says how long its content is and how large a window it needs; a reader that
believed it would allocate whatever a few bytes claim. Here the caller says how much there must be,
and a frame that promises, needs or gives anything else is refused without more memory than that.
"""

from __future__ import annotations

from threading import local
from typing import Any, NoReturn

import zstandard

from fedloom.errors import CorruptArtifactError

# On quantised values as on floats the fastest level is within 2 % of the bytes of the slowest.
_LEVEL = 1
_LEAST_WINDOW_BYTES = 1024  # the format has none smaller


class _Contexts(local):
    """The library's contexts serve one thread at a time."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(data: Any) -> bytes:
    """Compress bytes, or whatever else is one contiguous buffer, into one frame."""
    return _contexts.compressor.compress(data)


def decompress(data: bytes, size_bytes: int, place: str) -> bytes:
    """Give the `size_bytes` bytes that a frame holds; `place` is for messages.

    Raises CorruptArtifactError for what is not one whole frame, or one of another length or with a
    larger window.
    """
    try:
        frame = zstandard.get_frame_parameters(data)
        if frame.content_size != size_bytes:
            _refuse(place, f"got a frame of {frame.content_size} bytes, expected {size_bytes}")
        if frame.window_size > max(size_bytes, _LEAST_WINDOW_BYTES):
            _refuse(place, f"got a window of {frame.window_size} bytes, expected {size_bytes}")
        content = _contexts.decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptArtifactError(f"{place}: got no whole zstd frame: {error}") from error
    if len(content) != size_bytes:
        _refuse(place, f"got {len(content)} bytes, expected {size_bytes}")
    return content


def _refuse(place: str, problem: str) -> NoReturn:
    raise CorruptArtifactError(f"{place}: {problem}")
