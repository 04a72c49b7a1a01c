"""combine (cloud): add up a group of the cohort, a part of its mean that is made beside the others.

    python -I -m components.combine --plan plan.json --store URI --workdir DIR --task combine-1-0000

Groups are of `fanIn` neighbours in the order of the clients' names; the next level adds up as many groups,
until `aggregate` is left with at most `fanIn` sums. The bits are those of one aggregation of all (see
`algorithms.aggregation.pairwise`). A client whose update is missing or wrong is named and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from components.aggregated import Aggregated, read_parts, write_part
from components.ballot import check_block, collect, open_ballot, open_sums
from components.command import run_command
from components.next_model import layouts_of, open_model
from components.request import Place, Request
from components.updates import BadClients
from fedloom.algorithms.aggregation.mean import group_sums
from fedloom.algorithms.layout import accumulator_dtype
from fedloom.artifacts.arrays import ArrayFile, ArrayFileWriter


def run(request: Request, place: Place, failures: Mapping[str, Mapping[str, str]]) -> Aggregated:
    """Add up the updates of a group, or the sums of groups, and store what was found.

    The `model` of the result is the artifact of the sum, of the model's names and shapes in the dtypes
    that are summed in; None where no client of the group sent a good update.
    """
    groups = read_parts(place, request.settings.get("parts", ()))
    found = Aggregated.joined(groups) if groups else collect(request, place, failures)
    with open_model(request, place) as base:
        while found.reports:
            try:
                _add_up(request, place, base, found, groups)
            except BadClients as bad:
                found.drop(bad)
            else:
                break
    write_part(place, request.outputs["found"], found)
    return found


def _add_up(
    request: Request,
    place: Place,
    base: ArrayFile,
    found: Aggregated,
    groups: Sequence[Aggregated],
) -> None:
    layout, _ = layouts_of(request, base)
    key = request.outputs["model"]
    path = place.work / f"next-{key.rpartition('/')[2]}"
    shapes = {name: (accumulator_dtype(spec.dtype), spec.shape) for name, spec in layout.items()}
    place.work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        if groups:
            ballot = open_sums(request, place, groups, stack)
        else:
            ballot = open_ballot(request, place, layout, found.reports, stack)
        writer = stack.enter_context(ArrayFileWriter(path, shapes))
        for block in group_sums(ballot.sources, ballot.weights, ballot.positions, layout):
            check_block(ballot, block)
            writer.write(block.name, block.start, block.values)
        writer.close()
        found.model = place.store.put_file(key, path, replace=True)


def _run_as_command(request: Request, place: Place) -> dict[str, Any]:
    found = run(request, place, {})
    return {"accepted": sorted(found.reports), "failures": found.failures}


if __name__ == "__main__":
    run_command("combine", _run_as_command)
