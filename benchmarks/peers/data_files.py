"""Where the clients' data lies, and what the clients are called. Needs no numpy.

The program that measures must not have numpy loaded: pages that it shares with a system would count
only in part as that system's memory, and for the systems of its own environment alone.
"""

from __future__ import annotations

from pathlib import Path

CLIENTS = 10


def client_name(client: int) -> str:
    """Give the client's name; names sort as numbers do."""
    return f"client-{client:02d}"


def client_file(folder: Path, client: int) -> Path:
    return folder / f"{client_name(client)}.npz"


def test_file(folder: Path) -> Path:
    return folder / "test.npz"
