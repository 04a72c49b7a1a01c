"""What codecs lost stays with the client: committed with its update, added back when that was lost."""

from __future__ import annotations

import numpy as np
import pytest

from components.residual import Residual
from fedloom.algorithms.compression.feedback import ErrorFeedback, MomentumCorrection
from fedloom.artifacts.artifact import digest_of

SHAPES = {"a": (3, 2), "b": ()}


def some(value: float) -> dict[str, np.ndarray]:
    return {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}


class Client:
    """Sends half of what is outgoing in every round; the other half is what the codec lost."""

    def __init__(self, folder, feedback):
        self.folder = folder
        self.feedback = feedback
        self.notice = ""

    def take_part(self, number: int, delta: float, accepted: str | None) -> tuple[float, str]:
        """Give what was sent, and the update's digest."""
        with Residual(self.folder, self.feedback, number, accepted) as residual:
            for name, array in some(delta).items():
                outgoing = residual.outgoing(name, array)
                residual.keep(name, outgoing, outgoing / 2)
            digest = digest_of(f"{number} {outgoing}".encode())
            residual.store(digest)
        self.notice = residual.notice
        return float(outgoing) / 2, digest

    def names(self) -> list[str]:
        return sorted(path.name[:13] for path in self.folder.iterdir())


@pytest.fixture
def client(tmp_path):
    return Client(tmp_path / "own", ErrorFeedback())


def test_what_was_lost_is_added_to_the_next_update(client):
    sent, accepted = client.take_part(1, 1.0, None)
    assert sent == 0.5
    sent, accepted = client.take_part(2, 1.0, accepted)
    assert sent == 0.75
    sent, _ = client.take_part(5, 0.0, accepted)
    assert sent == 0.375
    assert client.notice == ""


def test_a_dropped_client_adds_its_lost_update_back(client):
    _, first = client.take_part(1, 1.0, None)
    client.take_part(2, 1.0, first)  # 1.5 in all, of which 0.75 was sent and not accepted
    sent, third = client.take_part(3, 0.0, first)
    assert sent == 0.75
    sent, _ = client.take_part(4, 0.0, third)
    assert sent == 0.375


def test_a_client_whose_every_update_was_lost_still_has_all_of_them(client):
    for number in (1, 2, 3):
        client.take_part(number, 1.0, None)
    assert client.take_part(4, 0.0, None)[0] == 1.5
    assert client.notice == ""


def test_a_round_that_is_run_again_gives_the_same_bits(client):
    _, first = client.take_part(1, 1.0, None)
    once = client.take_part(2, 1.0, first)
    again = client.take_part(2, 1.0, first)
    assert once == again
    assert client.names() == ["residual-0001", "residual-0002"]
    after = client.take_part(3, 1.0, again[1])
    client.take_part(3, 7.0, again[1])  # an attempt that drew something else
    assert client.take_part(3, 1.0, again[1]) == after


def test_a_run_that_went_back_a_round_finds_what_it_had(client):
    _, first = client.take_part(1, 1.0, None)
    expected = client.take_part(2, 1.0, first)
    # The model of round 2 is found damaged: round 2 is run again though its update was accepted.
    assert client.take_part(2, 1.0, first) == expected


def test_nothing_is_left_behind_of_older_rounds(client):
    accepted = None
    for number in range(1, 6):
        _, accepted = client.take_part(number, 1.0, accepted)
    assert client.names() == ["residual-0004", "residual-0005"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_residual_is_said_and_begun_anew(client, damage):
    _, accepted = client.take_part(1, 1.0, None)
    (path,) = client.folder.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes({"cut": data[:-2], "flip": data, "empty": b""}[damage])
    sent, accepted = client.take_part(2, 1.0, accepted)
    assert sent == 0.5
    assert "error feedback begins anew" in client.notice
    assert client.take_part(3, 1.0, accepted)[0] == 0.75
    assert client.notice == ""


def test_a_residual_of_another_update_than_the_last_is_not_used(client):
    client.take_part(1, 1.0, None)
    sent, _ = client.take_part(3, 1.0, "sha256:of round 2, whose file is gone")
    assert sent == 0.5
    assert "is not of the client's last update" in client.notice


def test_a_residual_of_other_shapes_is_not_used(client, tmp_path):
    _, accepted = client.take_part(1, 1.0, None)
    with Residual(client.folder, ErrorFeedback(), 2, accepted) as residual:
        delta = np.ones(7, np.float32)
        np.testing.assert_array_equal(residual.outgoing("a", delta), delta)
    assert "holds no 'kept.residual/a' of float32[7]" in residual.notice


def test_a_method_with_momentum_keeps_all_its_state(tmp_path):
    client = Client(tmp_path / "own", MomentumCorrection(0.5))
    _, accepted = client.take_part(1, 1.0, None)  # all of it was sent: nothing is left
    assert client.take_part(2, 1.0, accepted)[0] == 0.5
    client.take_part(3, 1.0, None)
    assert "begins anew" in client.notice


def test_lost_momentum_goes_on(tmp_path):
    client = Client(tmp_path / "own", MomentumCorrection(0.5))
    client.take_part(1, 1.0, None)
    # residual 1, velocity 1: 1 + 0.5 * 1 + 0 is outgoing
    assert client.take_part(2, 0.0, None)[0] == 0.75
