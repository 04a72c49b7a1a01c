"""The database that stands in for a server: made whole, found whole."""

import os
import re
import sqlite3
from contextlib import closing

import pytest

from fedloom.errors import TrackingUnavailableError
from fedloom.tracking.addresses import make_whole


def test_a_damaged_database_is_an_outage(job, tmp_path):
    from fedloom.tracking.mlflow_tracker import MlflowTracker

    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(TrackingUnavailableError, match="not a database"):
        MlflowTracker(f"sqlite:///{tmp_path}/broken.db").begin(job)


def test_a_new_database_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "state" / "mlflow.db"

    def create(draft):
        assert draft != path
        draft.write_bytes(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        make_whole(f"sqlite:///{path}", create)
    assert list(path.parent.iterdir()) == []
    make_whole(f"sqlite:///{path}", lambda draft: draft.write_bytes(b"x"))
    assert path.read_bytes() == b"x"
    make_whole(f"sqlite:///{path}", create)  # it is there: not made again


def test_a_draft_that_a_killed_process_left_is_cleared_away(tmp_path):
    old, new = tmp_path / ".mlflow.db-old", tmp_path / ".mlflow.db-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "mlflow.db").write_bytes(b"half")
    os.utime(old, (1, 1))
    make_whole(f"sqlite:///{tmp_path}/mlflow.db", lambda draft: draft.write_bytes(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db-new", "mlflow.db"]


def test_the_tables_are_those_that_mlflow_makes(empty_database, tmp_path):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{tmp_path}/theirs.db", "mlruns").engine.dispose()

    def schema(path):
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("select type, name, sql from sqlite_master").fetchall()
            # MLflow keeps some constraints in sets: their order changes from process to process.
            words = {
                (kind, name): sorted(re.findall(r"\w+", sql or "")) for kind, name, sql in tables
            }
            return words, connection.execute("select * from alembic_version").fetchall()

    assert schema(empty_database) == schema(tmp_path / "theirs.db")
