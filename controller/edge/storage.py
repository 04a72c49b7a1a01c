"""What a local controller keeps on its disk: objects, messages to send, what it counted. SQLite.

A write that returned is on the disk (WAL, synchronous=FULL). Messages have numbers that only grow and are
never given twice, also after the table was empty; together with the name of this database they say which
message is which. Too many messages are fewer by merging: of one subject (a worker of a job, a Dataset) the
newest stays, and says how many it stands for.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.link.bodies import DATASETS, version_of
from fedloom.errors import TransientError

log = logging.getLogger("fedloom.controller")

_MOST_BYTES = 64 * 1024 * 1024
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT, namespace TEXT, name TEXT, version TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (resource, namespace, name));
CREATE TABLE IF NOT EXISTS messages (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, path TEXT NOT NULL,
    body TEXT NOT NULL, merged INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS said (subject TEXT PRIMARY KEY, version TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counts (
    namespace TEXT, name TEXT, fingerprint TEXT NOT NULL, samples INTEGER NOT NULL,
    PRIMARY KEY (namespace, name));
"""


class QueueFullError(TransientError):
    """No more messages fit, not even after merging."""


@dataclass(frozen=True)
class Message:
    """One message that waits: where it goes, what it says, and for how many it stands besides itself."""

    sequence: int
    subject: str
    path: str
    body: Mapping[str, Any]
    merged: int = 0


class Storage:
    """See the module. Safe to use from any thread of one process."""

    def __init__(self, folder: Path, most_messages: int, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._most_bytes = most_messages, most_bytes
        self._lock = threading.RLock()
        self.changed = threading.Event()
        self._path = folder / "state.db"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._connection = self._opened()
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            self._connection = self._opened()
        self.name = self._fact("outbox", uuid.uuid4().hex)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # Objects.

    def put(self, resource: str, document: Mapping[str, Any], version: str) -> None:
        """Keep an object in the place of the one of its name."""
        meta = document["metadata"]
        row = (resource, meta["namespace"], meta["name"], version)
        with self._writing() as write:
            write("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", *row, _text(document))

    def remove(self, resource: str, namespace: str, name: str) -> bool:
        """Forget an object, what was counted of it and what was said last; False where there was none."""
        with self._writing() as write:
            key = (resource, namespace, name)
            gone = write("DELETE FROM objects WHERE (resource, namespace, name) = (?, ?, ?)", *key)
            subjects = "/".join((*key, ""))
            write("DELETE FROM said WHERE substr(subject, 1, ?) = ?", len(subjects), subjects)
            if resource == DATASETS:
                write("DELETE FROM counts WHERE (namespace, name) = (?, ?)", namespace, name)
            return int(gone.rowcount) > 0

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        query = "SELECT document FROM objects WHERE (resource, namespace, name) = (?, ?, ?)"
        rows = self._read(query, resource, namespace, name)
        return json.loads(rows[0][0]) if rows else None

    def all(self, resource: str) -> list[dict[str, Any]]:
        rows = self._read("SELECT document FROM objects WHERE resource = ?", resource)
        return [json.loads(row[0]) for row in rows]

    def held(self) -> dict[str, str]:
        """Versions of all objects by `resource/namespace/name`."""
        rows = self._read("SELECT resource, namespace, name, version FROM objects")
        return {"/".join(row[:3]): row[3] for row in rows}

    # Messages.

    def say(self, subject: str, path: str, body: Mapping[str, Any]) -> bool:
        """Have a message sent; False where it is what the subject said last. Raises QueueFullError."""
        text, version = _text(body), version_of(body)
        with self._writing() as write:
            last = write("SELECT version FROM said WHERE subject = ?", subject).fetchone()
            if last is not None and last[0] == version:
                return False
            self._make_room(write, subject, len(text))
            write("INSERT OR REPLACE INTO said VALUES (?, ?)", subject, version)
            write(
                "INSERT INTO messages (subject, path, body) VALUES (?, ?, ?)", subject, path, text
            )
        self.changed.set()
        return True

    def next_message(self) -> Message | None:
        """Give the message whose turn it is."""
        query = (
            "SELECT sequence, subject, path, body, merged FROM messages ORDER BY sequence LIMIT 1"
        )
        for sequence, subject, path, body, merged in self._read(query):
            return Message(sequence, subject, path, json.loads(body), merged)
        return None

    def delivered(self, sequence: int) -> None:
        """The cloud has it."""
        with self._writing() as write:
            write("DELETE FROM messages WHERE sequence = ?", sequence)

    def waiting(self) -> int:
        return int(self._read("SELECT COUNT(*) FROM messages")[0][0])

    # Counts.

    def count(self, namespace: str, name: str) -> tuple[str, int] | None:
        """Give (fingerprint, samples) as last counted."""
        query = "SELECT fingerprint, samples FROM counts WHERE (namespace, name) = (?, ?)"
        rows = self._read(query, namespace, name)
        return (str(rows[0][0]), int(rows[0][1])) if rows else None

    def set_count(self, namespace: str, name: str, fingerprint: str, samples: int) -> None:
        with self._writing() as write:
            row = (namespace, name, fingerprint, samples)
            write("INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?)", *row)

    def _make_room(self, write: Any, subject: str, size: int) -> None:
        def is_full() -> bool:
            query = "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM messages"
            count, used = write(query).fetchone()
            return bool(count >= self._most or used + size > self._most_bytes)

        if not is_full():
            return
        # The first message may be on its way: it is left alone, and whoever is sent twice is known.
        pairs = write(
            "SELECT sequence, subject, merged FROM messages WHERE sequence > "
            "(SELECT MIN(sequence) FROM messages) ORDER BY sequence DESC"
        ).fetchall()
        newest: dict[str, int] = {}
        merged: dict[int, int] = {}
        for sequence, each, count in pairs:
            kept = newest.setdefault(each, sequence)
            if kept != sequence:
                merged[kept] = merged.get(kept, 0) + count + 1
                write("DELETE FROM messages WHERE sequence = ?", sequence)
        for sequence, count in merged.items():
            write("UPDATE messages SET merged = merged + ? WHERE sequence = ?", count, sequence)
        log.warning(
            "%d messages wait: %d older ones were merged into the newest of their subject",
            len(pairs) + 1,
            sum(merged.values()),
        )
        if is_full():
            message = f"{self._most} messages wait for the cloud; {subject!r} is not taken now"
            raise QueueFullError(message, 30.0)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30.0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found[0] != "ok":
                raise sqlite3.DatabaseError(str(found[0]))
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: Exception) -> None:
        """The file is damaged: begin anew beside it; the cloud sends its objects again."""
        aside = self._path.with_name(f"damaged-{int(time.time())}.db")
        log.error("%s is damaged (%s): kept as %s, begun anew", self._path, error, aside)
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _fact(self, name: str, value: str) -> str:
        with self._writing() as write:
            write("INSERT OR IGNORE INTO facts VALUES (?, ?)", name, value)
            return str(write("SELECT value FROM facts WHERE name = ?", name).fetchone()[0])

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """One transaction: all of it, or nothing. Raises TransientError where the disk refuses it."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield lambda query, *values: self._connection.execute(query, values)
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:  # SQLite ends some itself
                    self._connection.execute("ROLLBACK")
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
                    raise TransientError(f"{self._path}: {error}", 30.0) from error
                raise


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
