"""What the images of an edge have spent: which release of which image, written before it leaves.

A SQLite file on the node, one row for each image and way of releasing it. All images of a release are
charged or none is, and what is charged is on the disk. The same release again is free: it is the same
bits. Another extractor, epsilon or key is another release, and adds up.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedloom.artifacts.files import disk_error
from fedloom.errors import JobError

_NAME = "releases.sqlite"
_WAIT_SECONDS = 60.0
_TABLE = """
CREATE TABLE IF NOT EXISTS releases (
    number INTEGER PRIMARY KEY,
    image TEXT NOT NULL, extractor TEXT NOT NULL, flips INTEGER NOT NULL, key TEXT NOT NULL,
    bits INTEGER NOT NULL, epsilon REAL NOT NULL,
    UNIQUE (image, extractor, flips, key, bits)
)
"""
_FIND = """
SELECT number FROM releases WHERE image = ? AND extractor = ? AND flips = ? AND key = ? AND bits = ?
"""
_ADD = (
    "INSERT INTO releases (image, extractor, flips, key, bits, epsilon) VALUES (?, ?, ?, ?, ?, ?)"
)
_SPENT = "SELECT epsilon FROM releases WHERE image = ? AND number <= ?"
_LAST = 2**62


@dataclass(frozen=True)
class Charge:
    """A way of releasing images, and its price.

    Attributes:
        extractor: digest of all that decides about a feature.
        flips: of the mechanism.
        key: fingerprint of the noise key.
        bits: of an image.
        epsilon: of an image; infinite where there is no noise.
    """

    extractor: str
    flips: int
    key: str
    bits: int
    epsilon: float


@dataclass(frozen=True)
class Spending:
    """What a release did to the ledger.

    Attributes:
        charged: images that were released like this for the first time.
        repeated: images for which this is a retry, free.
        total_epsilon: the most that one of them has spent up to this release, it included.
    """

    charged: int
    repeated: int
    total_epsilon: float


class ReleaseLedger:
    """The ledger in a folder of the edge. Several processes may use it; they wait for each other."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def charge(self, images: Iterable[str], charge: Charge, max_epsilon: float) -> Spending:
        """Charge every image for a release that is about to be made.

        Args:
            images: digests, each once.
            charge: what the release is.
            max_epsilon: of an image, over all its releases ever; infinite for no bound.

        Returns:
            What it came to, on the disk. The same again after a retry.

        Raises:
            JobError: `PrivacyBudgetSpent`, with the numbers, and nothing is charged.
        """
        way = (charge.extractor, charge.flips, charge.key, charge.bits)
        charged = repeated = refused = 0
        highest = worst = 0.0
        with self._transaction() as database:
            for image in images:
                found = database.execute(_FIND, (image, *way)).fetchone()
                if found is None:
                    spent = _spent(database, image, _LAST)
                    if spent + charge.epsilon > max_epsilon:
                        refused += 1
                        worst = max(worst, spent)
                    database.execute(_ADD, (image, *way, charge.epsilon))
                    charged += 1
                    highest = max(highest, spent + charge.epsilon)
                else:
                    repeated += 1
                    highest = max(highest, _spent(database, image, found[0]))
            if refused:
                raise _refusal(charge, max_epsilon, (refused, charged + repeated), worst)
        return Spending(charged, repeated, highest)

    def spent(self, image: str) -> float:
        """Give what an image has spent in all: 0 for one that was never released."""
        with self._transaction() as database:
            return _spent(database, image, _LAST)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Committed at the end and on the disk by then; nothing of it where it is left by an error."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise disk_error(error, self._path) from error
        try:
            database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        try:
            database.execute("PRAGMA synchronous = EXTRA")
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        finally:
            database.close()  # what was not committed is undone

    def _unreadable(self, error: sqlite3.Error) -> JobError:
        return JobError(
            "LedgerUnusable",
            f"{self._path}: {error}; expected the ledger of this edge's releases: without it nothing "
            "may leave. Do not delete it: what was spent would be forgotten",
        )


def _spent(database: sqlite3.Connection, image: str, number: int) -> float:
    return math.fsum(row[0] for row in database.execute(_SPENT, (image, number)))


def _refusal(charge: Charge, max_epsilon: float, counts: tuple[int, int], worst: float) -> JobError:
    """Say how many images and how much; which they are stays in the ledger, on the edge."""
    refused, images = counts
    return JobError(
        "PrivacyBudgetSpent",
        f"{refused} of {images} images would pass their budget: spent {worst:.6g}, this "
        f"release {charge.epsilon:.6g} ({charge.bits} bits), together "
        f"{worst + charge.epsilon:.6g}, expected at most {max_epsilon:.6g} (maxEpsilon, of an image)",
    )
