"""What a node keeps: numbers never come twice, too much is merged and not dropped, damage is survived."""

from __future__ import annotations

import sqlite3

import pytest

from controller.edge.settings import read_settings
from controller.edge.storage import QueueFullError, Storage
from fedloom.errors import InvalidJobError, TransientError


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(most: int = 100, most_bytes: int = 10**6) -> Storage:
        made.append(Storage(tmp_path / "state", most, most_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()


def drain(storage: Storage):
    while (message := storage.next_message()) is not None:
        yield message
        storage.delivered(message.sequence)


def test_numbers_grow_and_are_never_given_twice(opened):
    storage = opened()
    for number in range(3):
        storage.say("a", "/a", {"round": number})
    assert [message.sequence for message in drain(storage)] == [1, 2, 3]
    name = storage.name
    storage.close()
    again = opened()
    assert again.name == name
    again.say("a", "/a", {"round": 9})
    assert again.next_message().sequence == 4


def test_the_same_words_of_a_worker_are_one_message(opened):
    storage = opened()
    assert storage.say("a", "/a", {"round": 1})
    assert not storage.say("a", "/a", {"round": 1})
    list(drain(storage))
    assert not storage.say("a", "/a", {"round": 1}), "also when it has been delivered"
    assert storage.say("b", "/a", {"round": 1})
    assert storage.say("a", "/a", {"round": 2})


def test_too_many_messages_are_merged_by_subject_and_say_so(opened):
    storage = opened(most=10)
    for number in range(1, 31):
        storage.say("a", "/a", {"round": number})
        storage.say("b", "/b", {"round": number})
    found = list(drain(storage))
    assert len(found) <= 11
    assert {message.subject: message.body["round"] for message in found} == {"a": 30, "b": 30}
    assert sum(message.merged + 1 for message in found) == 60, "each of the 60 is accounted for"
    sequences = [message.sequence for message in found]
    assert sequences == sorted(sequences)


def test_more_subjects_than_fit_are_refused_not_forgotten(opened):
    storage = opened(most=5)
    for number in range(5):
        storage.say(f"w{number}", "/a", {"round": 1})
    with pytest.raises(QueueFullError):
        storage.say("w6", "/a", {"round": 1})
    assert storage.waiting() == 5
    storage.delivered(storage.next_message().sequence)
    assert storage.say("w6", "/a", {"round": 1}), "the refusal left no trace"


def test_bytes_are_bounded_too(opened):
    storage = opened(most_bytes=5000)
    for number in range(20):
        storage.say("a", "/a", {"round": number, "text": "x" * 1000})
    assert storage.waiting() <= 5
    assert sum(message.merged + 1 for message in drain(storage)) == 20


def test_objects_are_replaced_and_forgotten_with_their_counts(opened):
    storage = opened()
    document = {"metadata": {"namespace": "ns", "name": "d"}, "spec": {}}
    storage.put("datasets", document, "v1")
    storage.set_count("ns", "d", "f", 3)
    storage.put("datasets", document, "v2")
    assert storage.held() == {"datasets/ns/d": "v2"}
    assert storage.count("ns", "d") == ("f", 3)
    assert storage.remove("datasets", "ns", "d")
    assert not storage.remove("datasets", "ns", "d")
    assert storage.count("ns", "d") is None


@pytest.mark.parametrize("content", [b"", b"not a database" * 500])
def test_a_damaged_file_is_kept_aside_and_begun_anew(opened, tmp_path, content):
    storage = opened()
    storage.say("a", "/a", {})
    name = storage.name
    storage.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"state/state.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "state/state.db").write_bytes(content)
    again = opened()
    assert again.name != name, "its numbers begin again: it must not be taken for the old one"
    assert again.waiting() == 0
    kept = list((tmp_path / "state").glob("damaged-*"))
    assert len(kept) == bool(content)


def test_a_write_is_a_transaction(opened):
    storage = opened()

    def half() -> None:
        with storage._writing() as write:
            write("INSERT INTO facts VALUES ('x', 'y')")
            write("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(sqlite3.Error):
        half()
    assert storage._read("SELECT * FROM facts WHERE name = 'x'") == []


def test_a_full_disk_is_told_and_does_not_last(opened):
    storage = opened()
    pages = storage._connection.execute("PRAGMA page_count").fetchone()[0]
    storage._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(TransientError, match="full"):
        storage.say("a", "/a", {"text": "x" * 100_000})
    assert (storage.waiting(), storage.held()) == (0, {})
    storage._connection.execute("PRAGMA max_page_count = 10000")
    assert storage.say("a", "/a", {"text": "x" * 100_000}), "the refusal left no trace"


def test_every_wrong_setting_is_named():
    wrong = {
        "FEDLOOM_LC_CLOUD": "somewhere",
        "FEDLOOM_LC_DATA": "relative,/a/../b",
        "FEDLOOM_LC_WORKER_NETWORKS": "10.244.0.0/99",
        "FEDLOOM_LC_WORKER_LISTEN": "127.0.0.1:99999",
        "FEDLOOM_LC_COUNT_SECONDS": "soon",
    }
    with pytest.raises(InvalidJobError) as error:
        read_settings(wrong)
    fields = {problem.field for problem in error.value.problems}
    assert fields == {*wrong, "FEDLOOM_LC_NODE"}


def test_settings_have_defaults():
    given = {"FEDLOOM_LC_CLOUD": "[fd00::1]:30943", "FEDLOOM_LC_NODE": "edge-1"}
    settings = read_settings(given)
    assert settings.cloud == ("fd00::1", 30943)
    assert settings.worker_listen == (("127.0.0.1", 9100),)
    assert settings.listen == ("127.0.0.1", 9443)
    assert read_settings({**given, "FEDLOOM_LC_LISTEN": ""}).listen is None
