"""The messages of Sedna's first protocol: JSON, read with suspicion, written as its images expect.

    client -> server   {"type": "subscribe", "client_id"}
                       {"type": "update_weight", "client", "job_name", "data": {"num_samples", "weights"}}
    server -> client   {"type": "CLIENT_JOIN", "data": client_id}
                       {"type": "recv_weight", "round_number", "data": {"total_sample", "round_number",
                                                                      "weights", "exit_flag"}}

Whatever else a client says is repeated to everybody, itself included; its own `subscribe` too, by which
it knows that it is heard. Pure: bytes in, values out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fedloom.errors import UpdateError

MOST_TALK_BYTES = 64 * 1024
"""Of every message that is no update: what is repeated to all must not be used to flood them."""

MOST_EXAMPLES = 2**48
_LONGEST_NAME = 253


@dataclass(frozen=True)
class Subscribe:
    """A client says who it is: by the name of its worker."""

    worker: str


@dataclass(frozen=True)
class UpdateWeight:
    """A client's new weights, as the lists that JSON makes of them; they are taken out as they are read."""

    worker: str
    num_examples: int
    weights: list[Any] = field(repr=False)


@dataclass(frozen=True)
class Talk:
    """Any other message, which everybody is to hear."""

    kind: str


Message = Subscribe | UpdateWeight | Talk


def read_message(data: bytes) -> Message:
    """Read one message. Raises UpdateError: `MalformedMessage`, or `BadResult` for its count."""
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _bad("", f"no JSON ({_short(error)})", "a JSON object") from None
    if not isinstance(document, dict):
        raise _bad("", _short(document), "a JSON object")
    kind = document.get("type")
    if not isinstance(kind, str):
        raise _bad("type", _short(kind), "a text")
    if kind == "update_weight":
        return _update(document)
    if len(data) > MOST_TALK_BYTES:
        raise _bad("", f"{len(data)} bytes", f"at most {MOST_TALK_BYTES} for a {kind[:40]!r}")
    if kind == "subscribe":
        return Subscribe(_name("client_id", document.get("client_id")))
    return Talk(kind)


def joined(worker: str) -> str:
    """Tell those who were there before that a client has come."""
    return json.dumps({"type": "CLIENT_JOIN", "data": worker})


def weights_message(weights: bytes, number: int, examples: int, *, is_last: bool) -> bytes:
    """Give the global weights of an aggregation to a client; `weights` as JSON text, see `weights_text`."""
    flag = "ok" if is_last else "continue"
    head = f'{{"type":"recv_weight","round_number":{number},"data":{{"total_sample":{examples},'
    tail = f',"round_number":{number},"exit_flag":"{flag}"}}}}'
    return b"".join((head.encode(), b'"weights":', weights, tail.encode()))


def _update(document: dict[str, Any]) -> UpdateWeight:
    worker = _name("client", document.get("client"))
    data = document.get("data")
    if not isinstance(data, dict):
        raise _bad("data", _short(data), "an object")
    weights = data.get("weights")
    if not isinstance(weights, list):
        raise _bad("data.weights", _short(weights), "a list of lists of numbers")
    return UpdateWeight(worker, _examples(data.get("num_samples")), weights)


def _examples(count: object) -> int:
    is_number = isinstance(count, int | float) and not isinstance(count, bool)
    if not is_number or not 1 <= count <= MOST_EXAMPLES or count != int(count):  # type: ignore[operator, call-overload]
        expected = "an integer from 1 to 2**48"
        raise UpdateError(
            "BadResult", f"data.num_samples: got {_short(count)}, expected {expected}"
        )
    return int(count)  # type: ignore[call-overload, no-any-return]


def _name(field_name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        expected = f"a name of at most {_LONGEST_NAME} characters"
        raise _bad(field_name, _short(value), expected)
    return value


def _bad(field_name: str, got: str, expected: str) -> UpdateError:
    where = f"{field_name}: " if field_name else ""
    return UpdateError("MalformedMessage", f"{where}got {got}, expected {expected}")


def _short(value: object) -> str:
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
