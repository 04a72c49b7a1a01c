"""What a federated round costs on one machine: a plain numpy loop, Fedloom, Flower's simulation.

    python benchmarks/embedded_round.py [--repeat 3] [--without-flower] [--rounds-only]

All three solve `peers/digits.py` with the same seeds, uncompressed FedAvg and every client in
every round, and evaluate on the server after each. Each keeps its own arithmetic for the mean; the
accuracy of every round must nevertheless come out the same to the last digit, else this ends with
exit code 1; so it does where Fedloom ran without its tracking, since its figures would lack MLflow.

- **round**: (wall of a 60-round run - wall of a 10-round run) / 50: everything included that a
  round brings with it, for Fedloom also the commit and MLflow. Where starts differ by seconds, as
  Ray's do, this says little: 1 s more of start in one of the two runs is 20 ms of a round.
- **round, start taken out**: the same, with each run's wall counted from its first round on.
- **between rounds**: the median time between two rounds' lines in the 60-round run.
- **start + round 1**: from starting the process until round 1 is told.
- **peak PSS**: of the whole process tree, Ray's daemons included, in a run of its own, since
  looking at memory takes time; 20 rounds, or 600 for the loop, which would be over before the
  second look.

Repetitions are interleaved, so that a busy moment of the machine meets all systems. One run of each
system goes before, unmeasured, so that none pays for a cold disk. OMP threads 1, telemetry and
update checks off. Flower runs the way `peers/flower_server.py` says, in an environment of its own
that is made on first use in `.tools/peers/flower`.

Writes `benchmarks/results/embedded_round.json`, except with `--rounds-only`: a quick look does
not take the place of a measurement. Speed decides no exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import comparison, flower_environment, measurement, provenance, systems

_ROOT = Path(__file__).resolve().parents[1]
_RESULT = _ROOT / "benchmarks" / "results" / "embedded_round.json"
_FLOWER = _ROOT / ".tools" / "peers" / "flower"
_PACKAGES = ("fedloom", "numpy", "mlflow")


def main() -> int:
    """Measure, print and write; give the exit code."""
    arguments = _read_arguments()
    origin = provenance.describe(_PACKAGES)
    flower_python = None if arguments.without_flower else flower_environment.ensure(_FLOWER)
    if flower_python is not None:
        origin["versions"]["flower environment"] = flower_environment.versions(flower_python)
    measurement.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="round-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        systems.prepare_data(data)
        chosen = [systems.numpy_loop(data)]
        if not arguments.without_fedloom:
            chosen.append(systems.fedloom(data))
        if flower_python is not None:
            chosen.append(systems.flower(data, flower_python))
        try:
            table = _measure(chosen, arguments, Path(folder))
        except measurement.RunFailedError as error:
            print(error, file=sys.stderr)
            return 1
    return _report(table, arguments, origin)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default: 3)")
    parser.add_argument("--without-flower", action="store_true", help="leave Flower out")
    parser.add_argument("--without-fedloom", action="store_true", help="leave Fedloom out")
    parser.add_argument(
        "--rounds-only",
        action="store_true",
        help="quick: 20-round runs only, no round cost by difference, no memory",
    )
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error(f"--repeat: got {arguments.repeat}, expected at least 1")
    return arguments


def _measure(
    chosen: list[systems.System], arguments: argparse.Namespace, folder: Path
) -> dict[str, comparison.Observations]:
    table = {system.name: comparison.Observations() for system in chosen}
    run = _runner(folder)
    for system in chosen:
        run(system, 2, False)
    if not arguments.rounds_only:
        for system in chosen:
            table[system.name].steady.append(run(system, comparison.STEADY_ROUNDS, False))
    for _ in range(arguments.repeat):
        for system in chosen:
            seen = table[system.name]
            if arguments.rounds_only:
                seen.shown.append(run(system, comparison.SHOWN_ROUNDS, False))
                continue
            seen.short.append(run(system, comparison.SHORT_ROUNDS, False))
            seen.long.append(run(system, comparison.LONG_ROUNDS, False))
            seen.memory.append(run(system, system.memory_rounds, True))
    return table


def _runner(folder: Path) -> Callable[[systems.System, int, bool], measurement.Run]:
    done = 0

    def run(system: systems.System, rounds: int, sample_memory: bool) -> measurement.Run:
        nonlocal done
        done += 1
        # Short: Ray puts sockets below it, and a socket's path has at most 107 bytes.
        scratch = folder / f"r{done}"
        scratch.mkdir()
        outcome = measurement.run_system(
            system.command(rounds, scratch), rounds, sample_memory=sample_memory
        )
        message = f"{system.name}: {rounds} rounds in {outcome.wall_seconds:.1f} s"
        print(message, file=sys.stderr, flush=True)
        return outcome

    return run


def _report(
    table: dict[str, comparison.Observations],
    arguments: argparse.Namespace,
    origin: dict[str, Any],
) -> int:
    difference = comparison.disagreement(table)
    rounds = min(len(comparison.accuracies(seen)) for seen in table.values())
    verdict = (
        f"accuracy: the same to the last digit in all {rounds} rounds of {', '.join(table)}"
        if difference is None
        else f"accuracy: DIFFERS, {difference}"
    )
    missing = comparison.untracked(table)
    notes = [verdict, *([missing] if missing else []), *comparison.goal_lines(table)]
    accuracy = comparison.accuracy_lines(table)
    print("\n".join([*accuracy, "", *comparison.figure_lines(table), "", *notes]))
    if not arguments.rounds_only:
        _write(table, arguments.repeat, {**origin, "verdict": notes})
    return 0 if difference is None and missing is None else 1


def _write(
    table: dict[str, comparison.Observations], repeat: int, described: dict[str, Any]
) -> None:
    measured = {
        name: {
            **comparison.figures(seen),
            "wall_seconds": comparison.walls(seen),
            "accuracy": comparison.accuracies(seen),
        }
        for name, seen in table.items()
    }
    document = {
        "benchmark": "embedded_round",
        **described,
        "repeat": repeat,
        "systems": measured,
    }
    _RESULT.parent.mkdir(parents=True, exist_ok=True)
    _RESULT.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
