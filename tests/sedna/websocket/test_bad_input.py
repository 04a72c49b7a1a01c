"""What a client may do wrong: it is named with a reason, and the others go on."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress

import pytest

from components import websocket_server
from components.websocket_messages import MOST_TALK_BYTES, read_message
from components.websocket_weights import arrays_of, weights_text
from fedloom.errors import JobError, UpdateError

NAN = '{"type":"update_weight","client":"trainworker-b","data":{"num_samples":1,"weights":[[NaN]]}}'


def of_b(weights="[[1.0]]", examples="1"):
    data = f'{{"num_samples":{examples},"weights":{weights}}}'
    return f'{{"type":"update_weight","client":"trainworker-b","data":{data}}}'


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (of_b("[[NaN]]"), "NotFinite"),
        (of_b("[[1e999]]"), "NotFinite"),
        (of_b("[[1.0],[2.0]]"), "UnexpectedTensor"),
        (of_b("[[1.0,2.0]]"), "ShapeMismatch"),
        (of_b("[1.0]"), "ShapeMismatch"),
        (of_b("[[[1.0,2.0],[3.0]]]"), "MalformedUpdate"),
        (of_b('[["1.0"]]'), "MalformedUpdate"),
        (of_b("[[null]]"), "MalformedUpdate"),
        (of_b("[[true]]"), "MalformedUpdate"),
        (of_b("[{}]"), "MalformedUpdate"),
        (of_b("[]"), "NoUpdate"),
        (of_b(examples="-3"), "BadResult"),
        (of_b(examples="0"), "BadResult"),
        (of_b(examples="1.5"), "BadResult"),
        (of_b(examples="1e300"), "BadResult"),
        (of_b(examples="NaN"), "BadResult"),
        (of_b(examples="true"), "BadResult"),
        (of_b(examples='"7"'), "BadResult"),
    ],
)
def test_a_bad_update_is_left_out_and_its_client_takes_the_weights_of_the_others(
    serve, message, reason
):
    aggregator = serve("a", "b", "c", min_clients=2, inner_rounds=2)
    clients = [aggregator.client(name).subscribe() for name in "abc"]
    good = (clients[0], clients[2])
    for client in good:
        client.update([[2.0]])
    clients[1].say(message)
    assert [client.weights()["weights"] for client in clients] == [[[2.0]]] * 3
    for client in clients:  # it has recovered
        client.update([[3.0]])
    assert [client.weights()["exit_flag"] for client in clients] == ["ok"] * 3
    for client in clients:
        client.close()
    found = aggregator.end()
    assert found.inner[0]["failures"]["b"]["reason"] == reason
    assert sorted(found.inner[0]["clients"]) == ["a", "c"]
    assert found.failures == {}


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        "7",
        "[" * 100_000,
        '{"type": 3}',
        '{"type": "update_weight"}',
        '{"type": "update_weight", "client": "trainworker-b", "data": []}',
        '{"type": "update_weight", "client": "trainworker-b", "data": {"weights": {}}}',
        '{"type": "update_weight", "client": "trainworker-a", '
        '"data": {"num_samples": 1, "weights": [[9.0]]}}',
        '{"type": "chat", "text": "' + "x" * MOST_TALK_BYTES + '"}',
    ],
)
def test_who_does_not_speak_the_protocol_is_cut_off_and_named(serve, message):
    aggregator = serve("a", "b", min_clients=1)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    second.say(message)
    with pytest.raises(ConnectionError, match="1008: MalformedMessage"):
        second.hear_all()
    first.update([[1.0]])
    assert first.weights()["weights"] == [[1.0]]
    first.close()
    found = aggregator.end()
    assert found.failures["b"]["reason"] == "MalformedMessage"


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("{", "MalformedMessage"),
        ('{"type": "subscribe"}', "MalformedMessage"),
        ('{"type": "subscribe", "client_id": "trainworker-z"}', "UnknownClient"),
        ('{"type": "subscribe", "client_id": "a"}', "UnknownClient"),
        ('{"type": "subscribe", "client_id": ["trainworker-a"]}', "MalformedMessage"),
        (of_b(), "MalformedMessage"),
    ],
)
def test_who_is_no_client_does_not_get_in(serve, first, why):
    aggregator = serve("a")
    stranger = aggregator.client("z")
    stranger.say(first)
    with pytest.raises(ConnectionError, match=f"1008: {why}"):
        stranger.hear()
    assert aggregator.get("/") == {"clients": []}
    client = aggregator.client("a").subscribe()
    client.update([[1.0]])
    client.weights()
    client.close()
    aggregator.end()


def test_a_stranger_cannot_send_much(serve):
    aggregator = serve("a", deadline_seconds=0.5)
    stranger = aggregator.client("z")
    stranger.say(" " * (MOST_TALK_BYTES + 1))
    with pytest.raises(ConnectionError):
        stranger.hear()
    with pytest.raises(JobError):
        aggregator.end()


def test_a_second_client_of_the_same_name_is_refused_while_the_first_answers(serve, monkeypatch):
    aggregator = serve("a", "b")
    first, other = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    twin = aggregator.client("a")
    twin.say({"type": "subscribe", "client_id": "trainworker-a"})
    first.wire.limit(0.3)
    with pytest.raises(OSError, match="timed out"):  # reading answers the ping
        first.hear_all()
    with pytest.raises(ConnectionError, match="1008: DuplicateClient"):
        twin.hear()
    first.close()
    other.close()


def test_a_client_whose_line_is_dead_is_taken_the_place_of(serve, monkeypatch):
    monkeypatch.setattr(websocket_server, "_ALIVE_SECONDS", 0.2)
    aggregator = serve("a")
    aggregator.client("a").subscribe()  # which never reads again
    again = aggregator.client("a").subscribe()
    again.update([[5.0]])
    assert again.weights()["weights"] == [[5.0]]
    again.close()
    assert aggregator.end().failures == {}


def test_all_clients_of_a_job_use_one_path(serve):
    aggregator = serve("a", "b", min_clients=1, deadline_seconds=0.5)
    first = aggregator.client("a", "/FedAvg").subscribe()
    second = aggregator.client("b", "/Other")
    second.say({"type": "subscribe", "client_id": "trainworker-b"})
    with pytest.raises(ConnectionError, match="OtherAggregation"):
        second.hear()
    first.update([[1.0]])
    first.weights()
    first.close()
    aggregator.end()


def test_a_client_that_dies_in_mid_round_is_not_waited_for(serve):
    aggregator = serve("a", "b", min_clients=1, deadline_seconds=60)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    second.close()
    started = time.monotonic()
    first.update([[1.0]])
    assert first.weights()["weights"] == [[1.0]]
    assert time.monotonic() - started < 5
    first.close()
    assert aggregator.end().failures["b"]["reason"] == "Disconnected"


def test_an_update_counts_though_its_client_has_gone(serve):
    aggregator = serve("a", "b")
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    second.update([[3.0]])
    second.close()
    first.update([[1.0]])
    assert first.weights()["weights"] == [[2.0]]
    first.close()
    aggregator.end()


def test_thirty_megabytes_pass_both_ways(serve):
    aggregator = serve("a")
    client = aggregator.client("a").subscribe()
    row = [0.1234567890123456, -9.876543210987654e-05] * 500
    weights = [[row] * 1450]  # 1.45 million numbers
    text = json.dumps(weights)
    assert len(text) > 30e6
    client.say(of_b(text).replace("trainworker-b", "trainworker-a"))
    assert client.weights()["weights"] == weights
    client.close()
    found = aggregator.end()
    assert found.reports["a"]["uplink_bytes"] > 30e6


def test_a_message_beyond_what_memory_allows_is_refused_and_the_others_go_on(serve, monkeypatch):
    monkeypatch.setattr("components.websocket.memory_bytes", lambda: 5 * 1_000_000)
    aggregator = serve("a", "b", min_clients=1)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    with suppress(OSError):  # it may be cut off while it still sends
        second.say(" " * 2_000_000)
    with pytest.raises(OSError, match=r"1009|reset|pipe|closed|gone"):
        second.hear_all()
    first.update([[1.0]])
    assert first.weights()["weights"] == [[1.0]]
    first.close()
    assert aggregator.end().failures["b"]["reason"] == "MessageTooLarge"


def test_too_few_good_updates_end_the_attempt_at_once(serve):
    aggregator = serve("a", "b", deadline_seconds=60)
    first, second = aggregator.client("a").subscribe(), aggregator.client("b").subscribe()
    first.update([[1.0]])
    second.say(NAN)
    with pytest.raises(JobError, match=r"b: NotFinite"):
        aggregator.end()
    with pytest.raises(ConnectionError, match="1013: TooFewClients"):
        first.hear_all()


def test_a_client_hears_pings_while_nothing_happens(serve, monkeypatch):
    monkeypatch.setattr(websocket_server, "HEARTBEAT_SECONDS", 0.1)
    aggregator = serve("a", min_clients=1)
    client = aggregator.client("a").subscribe()
    answered, answer = [], client.wire._frame

    def note(kind, payload):
        answered.append(kind)
        if len(answered) == 3:
            raise ConnectionError("enough")
        answer(kind, payload)

    client.wire._frame = note
    with pytest.raises(ConnectionError, match="enough"):
        client.hear()
    assert answered == [0xA] * 3
    client.close()


def test_numbers_come_back_as_they_were_in_half_the_text():
    import numpy as np

    rng = np.random.default_rng(7)
    shapes = [(3, 2), (), (0,), (5,), (2, 70_000), (70_000,), (40_000, 3)]
    for dtype in (np.float32, np.float64):
        tensors = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
        text = weights_text(tensors)
        back = arrays_of(json.loads(text))
        for tensor, got in zip(tensors, back.values(), strict=True):
            assert got.shape == tensor.shape
            np.testing.assert_array_equal(got.astype(dtype), tensor)
    whole = weights_text([np.ones(2, np.float32), np.array([3], np.int64)])
    assert whole == b"[[1.00000000,1.00000000],[3]]"  # fractions stay fractions


def test_an_update_is_emptied_while_it_is_read():
    message = read_message(of_b("[[1.0],[2.0]]").encode())
    arrays = arrays_of(message.weights)
    assert list(arrays) == ["0000", "0001"]
    assert message.weights == []


def test_a_message_is_decoded_in_four_times_its_length():
    data = of_b(json.dumps([[0.1234567890123456] * 500] * 100)).encode()
    tracemalloc.start()
    message = read_message(data)
    arrays_of(message.weights)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 4 * len(data)


def test_deep_lists_are_refused():
    with pytest.raises(UpdateError, match="expected lists of numbers"):
        arrays_of([[[[[[1.0], 2.0]]]]])
