"""The masked half of aggregate (cloud): take the masks out of the sum, and nothing else.

The survivors' answers give their seeds, and the mask keys of those that dropped out. The masks they
make are taken out block by block as the sum is read; memory does not grow with the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from components.masked_file import check_rings, ring_name, rule_of
from components.masking import pair_stream, seed_stream
from components.request import Place, Request
from components.session import Exchange, Reveal, Roster, Survivors, session_of, take
from components.updates import Failures, Reports, reports_of
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype
from fedloom.algorithms.privacy.integer_grid import STATISTICS, Dtype, GridLayout, Segment
from fedloom.algorithms.privacy.masks import (
    BLOCK_BYTES,
    Keystream,
    Mask,
    apply_masks,
    masks_left,
    new_scratch,
)
from fedloom.algorithms.privacy.secret_sharing import find_wrong
from fedloom.artifacts.arrays import ArrayFile
from fedloom.errors import ArtifactNotFoundError, JobError, UpdateError
from fedloom.keys.agreement import KeyPair, derive


class UnmaskedSum:
    """The sum of the survivors' updates, an `Aggregator` that gives their mean; a context.

    Attributes:
        clients: how many updates are in the sum.
        wrong: client -> what was wrong with its answer, which was not needed.
        traffic: client -> bytes up and down of its messages, without its update.
    """

    shows_bad_values: ClassVar[bool] = True
    least_updates: ClassVar[int] = 0

    def __init__(
        self, file: ArrayFile, layout: GridLayout, masks: list[Mask], clients: int
    ) -> None:
        self.clients = clients
        self.wrong: dict[str, str] = {}
        self.traffic: dict[str, tuple[int, int]] = {}
        self._file = file
        self._layout = layout
        self._masks = masks
        self._scratch = new_scratch()
        self._memory = {ring: new_scratch().view(ring) for ring in layout.sizes}
        self._starts = dict.fromkeys(layout.sizes, -1)

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the mean, every client counting the same; there are no `sources` to look at."""
        del sources, weights
        return self._stream(layout)

    def sums(self, layout: Layout) -> Iterator[Block]:
        """Stream the sum, float64; of integers and bools zeros.

        What noise is added to (`private_mean.noised_mean`): integers would tell unnoised.
        """
        for name, start, stop in _stretches(layout):
            segment = self._layout.segments[name]
            if segment.grid.is_exact:
                yield Block(name, start, np.zeros(stop - start))
            else:
                yield Block(name, start, self._mean(segment, start, stop, 1))

    def _stream(self, layout: Layout) -> Iterator[Block]:
        for name, start, stop in _stretches(layout):
            mean = self._mean(self._layout.segments[name], start, stop, self.clients)
            dtype = accumulator_dtype(layout[name].dtype)
            yield Block(name, start, mean.astype(dtype, copy=False))

    def add_traffic(self, reports: Reports) -> None:
        """Count the messages of the clients that answered beside their updates."""
        for client, (up, down) in self.traffic.items():
            reports[client]["uplink_bytes"] += up
            reports[client]["downlink_bytes"] += down

    def report(self, masking: Mapping[str, Any]) -> dict[str, Any]:
        """Give what the round's result says of the sum: plain JSON values.

        `clients` in it, the `threshold` of answers, `wrong_answers` by client, and what the clients
        counted, summed over them (`integer_grid.STATISTICS`): not where noise hides every client.
        """
        found = {
            "clients": self.clients,
            "threshold": masking["threshold"],
            "wrong_answers": dict(sorted(self.wrong.items())),
        }
        if masking["is_bounded"]:
            return found
        segment = self._layout.statistics
        counts = self._mean(segment, 0, segment.size, 1)
        return found | {name: int(each) for name, each in zip(STATISTICS, counts, strict=True)}

    def __enter__(self) -> UnmaskedSum:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _mean(self, segment: Segment, start: int, stop: int, clients: int) -> Array:
        ring, first = segment.grid.ring, segment.start + start
        sums = np.empty(stop - start, ring)
        step, done = BLOCK_BYTES // ring.itemsize, 0
        while done < sums.size:
            block, inside = divmod(first + done, step)
            values = self._block(ring, block * step)[inside : inside + sums.size - done]
            sums[done : done + values.size] = values
            done += values.size
        return segment.grid.mean(sums, clients)

    def _block(self, ring: Dtype, start: int) -> Array:
        """Give the block of a ring that begins at `start`, unmasked; the last one is kept."""
        size = min(self._layout.sizes[ring] - start, BLOCK_BYTES // ring.itemsize)
        values = self._memory[ring][:size]
        if self._starts[ring] != start:
            self._starts[ring] = -1
            self._file.read_into(ring_name(ring), start, values)
            apply_masks(values, start, self._layout, self._masks, self._scratch)
            self._starts[ring] = start
        return values


def _stretches(layout: Layout) -> Iterator[tuple[str, int, int]]:
    for name in sorted(layout):
        size = layout[name].size
        for start in range(0, max(size, 1), BLOCK_ELEMENTS):
            yield name, start, min(start + BLOCK_ELEMENTS, size)


def read_reports(request: Request, place: Place) -> tuple[Reports, Failures]:
    """Give the reports of the clients in the sum, and why the others are not in it."""
    survivors = take(place, request, "survivors", Survivors.read)
    keys = reports_of(request)
    reports = {client: json.loads(place.store.get(keys[client])) for client in survivors.clients}
    return reports, {client: dict(failure) for client, failure in survivors.failures.items()}


def open_sum(request: Request, place: Place, layout: Layout) -> UnmaskedSum:
    """Open the sum of the round's updates, ready to be read without its masks.

    Raises:
        JobError: `TooFewShares`, where fewer clients answered than the threshold, or too many
            answers were wrong: the reason says for whom and who did not answer.
    """
    session = session_of(request)
    roster = take(place, request, "roster", Roster.read)
    exchange = take(place, request, "exchange", Exchange.read)
    survivors = take(place, request, "survivors", Survivors.read)
    answers, wrong = _answers(request, place, survivors)
    opened = _Opened(request.settings["masking"]["threshold"], roster, answers, wrong)
    seeds: dict[str, Keystream] = {}
    for client in survivors.clients:
        check = bytes.fromhex(exchange.seed_checks[client])
        seed = opened.secret(client, "seeds", _is_seed(check, session))
        seeds[client] = seed_stream(seed, session)
    pairs = []
    for gone in sorted(set(exchange.clients) - set(survivors.clients)):
        public = roster.adverts[gone].mask_key
        pair = KeyPair.of(opened.secret(gone, "mask_keys", _is_key(public)))
        for client in survivors.clients:
            key = roster.adverts[client].mask_key
            pairs.append((client, gone, pair_stream(pair, key, (client, gone), session)))
    masks = [mask.inverse() for mask in masks_left(survivors.clients, seeds, pairs)]
    grid = GridLayout(layout, rule_of(request.settings["masking"]))
    total = survivors.total
    file = ArrayFile(place.store.materialize(total["key"], place.work, digest=total["digest"]))
    check_rings(file, grid)
    found = UnmaskedSum(file, grid, masks, len(survivors.clients))
    found.wrong = wrong
    found.traffic = {
        client: (answer.uplink_bytes, answer.downlink_bytes) for client, answer in answers.items()
    }
    return found


class _Opened:
    """Secrets put together from the shares in the answers."""

    def __init__(
        self, threshold: int, roster: Roster, answers: Mapping[str, Reveal], wrong: dict[str, str]
    ) -> None:
        self._threshold = threshold
        self._numbers = roster.numbers
        self._names = {number: name for name, number in roster.numbers.items()}
        self._answers = answers
        self._wrong = wrong

    def secret(self, client: str, kind: str, is_right: Callable[[bytes], bool]) -> bytes:
        shares = {
            self._numbers[name]: getattr(answer, kind)[client]
            for name, answer in self._answers.items()
            if client in getattr(answer, kind)
        }
        found = find_wrong(shares, self._threshold, is_right)
        if found is None:
            raise JobError("TooFewShares", self._complaint(client, kind, len(shares)))
        for number in found[1]:
            self._wrong[self._names[number]] = f"its share of {client!r} is wrong"
        return found[0]

    def _complaint(self, client: str, kind: str, shares: int) -> str:
        what = "the mask" if kind == "seeds" else "the shared masks"
        why = "; ".join(f"{name}: {text}" for name, text in sorted(self._wrong.items())[:5])
        return (
            f"{what} of client {client!r}: got {shares} shares, expected {self._threshold} that "
            f"belong together. {why}"
        )


def _answers(
    request: Request, place: Place, survivors: Survivors
) -> tuple[dict[str, Reveal], dict[str, str]]:
    """Read the survivors' answers; say what is wrong with the others."""
    session = session_of(request)
    answers, wrong = {}, {}
    for client in survivors.clients:
        key = request.settings["reveals"][client]
        try:
            answer = Reveal.read(place.store.get(key), session, client)
            if answer.survivors != survivors.digest:
                raise UpdateError("MalformedMessage", "it answers for other survivors")
            for sender, text in answer.refused.items():
                wrong[client] = f"what {sender!r} sealed for it: {text}"
            answers[client] = answer
        except ArtifactNotFoundError:
            wrong[client] = "no answer arrived"
        except UpdateError as error:
            wrong[client] = error.message
    return answers, wrong


def _is_seed(check: bytes, session: str) -> Callable[[bytes], bool]:
    return lambda seed: derive(seed, "seed check", session.encode()) == check


def _is_key(public: bytes) -> Callable[[bytes], bool]:
    return lambda private: KeyPair.of(private).public == public
