"""The releases of all edges as one sequence of images, read from disk as they are asked for."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType

from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.artifacts.array_files import Array
from fedloom.artifacts.artifact import digest_of_file
from fedloom.artifacts.releases import Release
from fedloom.errors import CorruptArtifactError, JobError, UpdateError


@dataclass(frozen=True)
class Expected:
    """What every release of a job has to be.

    Attributes:
        extractor: digest of the extractor that was sent.
        shape: of an image's features.
        label_columns: numbers in a label.
        flips: of the mechanism, where all edges have the same; None where each has its own.
    """

    extractor: str
    shape: tuple[int, ...]
    label_columns: int
    flips: int | None = None

    def check(self, manifest: ReleaseManifest) -> None:
        """Refuse another release.

        Raises:
            UpdateError: `OtherExtractor`, `WrongShape`, `WrongLabels` or `OtherEpsilon`.
        """
        mechanism = manifest.mechanism
        pairs = (
            ("OtherExtractor", "an extractor", manifest.extractor, self.extractor),
            ("WrongShape", "features of shape", manifest.shape, self.shape),
            ("WrongLabels", "label columns", manifest.label_columns, self.label_columns),
            ("OtherEpsilon", "flips in 2**32", mechanism.flips, self.flips),
        )
        for reason, what, got, expected in pairs:
            if expected is not None and got != expected:
                raise UpdateError(
                    reason, f"edge {manifest.edge!r}: got {what} {got}, expected {expected}"
                )


def open_release(
    path: str | os.PathLike[str], digest: str, edge: str, expected: Expected
) -> Release:
    """Open a release of which nothing is believed, all of it checked.

    Args:
        path: of the file.
        digest: that the edge reported, `sha256:<hex>`.
        edge: whose it has to be.
        expected: what it has to be.

    Raises:
        CorruptArtifactError: another digest, or no such file.
        UpdateError: by the reasons of `Expected.check` and `Release.check`, or `OtherEdge`.
    """
    got = digest_of_file(path)
    if got != digest:
        raise CorruptArtifactError(f"release of edge {edge!r}: got {got}, expected {digest}")
    release = Release(path)
    try:
        if release.manifest.edge != edge:
            raise UpdateError(
                "OtherEdge", f"got the release of edge {release.manifest.edge!r}, expected {edge!r}"
            )
        expected.check(release.manifest)
        release.check()
    except BaseException:
        release.close()
        raise
    return release


class PooledReleases:
    """Images of several edges in one row, edges in the order of their names. Closes what it was given.

    Raises JobError `InvalidParameter` without a release; UpdateError `DuplicateEdge` where an edge
    answered twice, `DuplicateRelease` where two edges gave the same bits, `OtherExtractor` where they
    do not fit together.
    """

    def __init__(self, releases: Iterable[Release]) -> None:
        self._releases = sorted(releases, key=lambda each: each.manifest.edge)
        self._stack = ExitStack()
        for release in self._releases:
            self._stack.callback(release.close)
        try:
            self._check()
        except BaseException:
            self.close()
            raise
        self._ends = list(accumulate(len(release) for release in self._releases))

    def __enter__(self) -> PooledReleases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, index: int) -> tuple[Array, Array]:
        """Give the debiased features and the labels of an image, as `Release.read`."""
        if not 0 <= index < len(self):
            raise IndexError(f"got image {index}, expected 0 to {len(self) - 1}")
        place = bisect_right(self._ends, index)
        before = self._ends[place - 1] if place else 0
        return self._releases[place].read(index - before)

    @property
    def manifests(self) -> tuple[ReleaseManifest, ...]:
        return tuple(release.manifest for release in self._releases)

    @property
    def counts(self) -> Mapping[str, int]:
        """Images by edge."""
        return {release.manifest.edge: len(release) for release in self._releases}

    def close(self) -> None:
        """Close all of them; closing twice is fine."""
        self._stack.close()

    def _check(self) -> None:
        if not self._releases:
            raise JobError("InvalidParameter", "got no release, expected one or more")
        first = self._releases[0]
        expected = Expected(
            first.manifest.extractor, first.manifest.shape, first.manifest.label_columns
        )
        edges: set[str] = set()
        names: dict[bytes, str] = {}
        for release in self._releases:
            edge = release.manifest.edge
            if edge in edges:
                raise UpdateError(
                    "DuplicateEdge", f"edge {edge!r}: got two releases, expected one of each edge"
                )
            edges.add(edge)
            expected.check(release.manifest)
            # Names are keyed by the edge: two edges that share one share their key, or a release.
            other = names.setdefault(release.identifier(0), edge)
            if other != edge:
                raise UpdateError(
                    "DuplicateRelease",
                    f"edge {edge!r}: got the images that edge {other!r} released, under the same "
                    "key; expected a release and a key of each edge",
                )
