"""How fast K updates are combined, and in how much memory: Fedloom's rules, Flower, NVFlare.

    python benchmarks/aggregation.py [--quick] [--install-peers]

Every row is a process of its own with one thread (see `aggregation_case.py`). GB/s counts the updates
as float32, whatever they take in a file. `numpy.sum` reads the same bytes from memory in the same
process, in turn with the system: the ratio is what to look at. Memory is the peak of resident memory
while the mean is made, over what was resident before, the updates included where they lie in memory.
Linux only.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = {"flower": "flwr", "nvflare": "nvflare"}
OURS = (
    "fedloom",
    "fedloom, mean kept",
    "fedloom, files",
    "fedloom, none update files",
    "fedloom, int8 update files",
    "fedloom, tree of 8",
    "fedloom, clipped to median",
    "fedloom, median",
    "fedloom, trimmed-mean",
    "fedloom, multi-krum",
    "fedloom, geometric-median",
)
BOUND = 0.8  # of numpy.sum's rate, for the mean of updates in memory
FULL_PARAMETERS, QUICK_PARAMETERS, MANY_PARAMETERS = 25_000_000, 2_000_000, 4_000_000
CLIENTS = (4, 20, 100)
MEMORY_LIMIT_BYTES = 4_000_000_000

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
}

Row = dict[str, Any]


def main() -> int:
    """Measure every case, print the table, write the results; 1 if a case failed or the mean is slow."""
    options = parse()
    pythons = find_peers(options)
    rows = []
    for clients in CLIENTS:
        parameters = choose_parameters(clients, quick=options.quick)
        for system in (*OURS, *pythons):
            row = run_case(system, clients, parameters, pythons.get(system, sys.executable))
            print(as_line(row), file=sys.stderr, flush=True)
            rows.append(row)
    print(as_table(rows))
    write_results(options.output, rows, pythons)
    # The updates of a quick run lie in the cache, where numpy.sum has nothing to wait for.
    mean = [row for row in rows if row["system"] == "fedloom" and not options.quick]
    slow = [row for row in mean if row.get("ratio", 1) < BOUND]
    for row in slow:
        print(f"the mean of {row['clients']} is below {BOUND:.0%} of numpy.sum", file=sys.stderr)
    return int(bool(slow) or any("error" in row for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 M parameters instead of 25 M")
    for peer in PEERS:
        parser.add_argument(f"--{peer}-python", type=Path, help=f"interpreter that has {peer}")
    parser.add_argument(
        "--install-peers", action="store_true", help="make the peers' environments in .tools/peers"
    )
    default = ROOT / "benchmarks" / "results" / "aggregation.json"
    parser.add_argument("--output", type=Path, default=default, help="where the JSON goes")
    return parser.parse_args()


def choose_parameters(clients: int, *, quick: bool) -> int:
    """Give the parameters per update: fewer where all updates would not fit into memory."""
    wanted = QUICK_PARAMETERS if quick else FULL_PARAMETERS
    return wanted if clients * wanted * 4 <= MEMORY_LIMIT_BYTES else MANY_PARAMETERS


def find_peers(options: argparse.Namespace) -> dict[str, str]:
    """Give the interpreter of each peer there is: named, or in .tools/peers, made if asked for."""
    found = {}
    for peer, package in PEERS.items():
        folder = ROOT / ".tools" / "peers" / peer
        python = getattr(options, f"{peer}_python") or folder / "bin" / "python"
        if options.install_peers and not python.exists():
            print(f"installing {package}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], check=True)
        if python.exists():
            found[peer] = str(python)
        else:
            print(f"no {peer}: see --install-peers and --{peer}-python", file=sys.stderr)
    return found


def run_case(system: str, clients: int, parameters: int, python: str) -> Row:
    """Measure one case in a child process; `error` in the row where it failed."""
    environment = {**os.environ, **SETTINGS}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(ROOT)
    row: Row = {"system": system, "clients": clients, "parameters": parameters}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        case = {**row, "repeats": 7, "folder": folder}
        script = str(Path(__file__).with_name("aggregation_case.py"))
        outcome = subprocess.run(
            [python, script, json.dumps(case)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if outcome.returncode:
        return {**row, "error": (outcome.stderr.strip() or "no message").splitlines()[-1]}
    measured = json.loads(outcome.stdout.splitlines()[-1])
    gigabytes = clients * parameters * 4 / 1e9
    return {
        **row,
        **measured,
        "input_gb": gigabytes,
        "gb_per_second": gigabytes / measured["seconds"],
        "sum_gb_per_second": gigabytes / measured["sum_seconds"],
        "load": load,
    }


HEADINGS = ("system", "K", "P", "GB", "GB/s", "numpy.sum", "ratio", "MiB over base", "load")
WIDTHS = (28, 5, 7, 6, 7, 10, 7, 14, 6)


def as_table(rows: list[Row]) -> str:
    return "\n".join([_aligned(HEADINGS), "-" * sum(WIDTHS), *map(as_line, rows)])


def as_line(row: Row) -> str:
    head = (row["system"], str(row["clients"]), f"{row['parameters'] // 10**6} M")
    if "error" in row:
        return f"{_aligned(head)}  failed: {row['error']}"
    return _aligned(
        (
            *head,
            f"{row['input_gb']:.2f}",
            f"{row['gb_per_second']:.2f}",
            f"{row['sum_gb_per_second']:.2f}",
            f"{row['ratio']:.0%}",
            f"{row['memory_bytes'] / 2**20:.1f}",
            f"{row['load']:.1f}",
        )
    )


def _aligned(cells: tuple[str, ...]) -> str:
    first, *others = zip(cells, WIDTHS, strict=False)
    return first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)


def write_results(path: Path, rows: list[Row], pythons: dict[str, str]) -> None:
    """Write the rows with what is needed to judge them: commit, versions, processor, date."""
    report = {
        "benchmark": "aggregation",
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "peers": {peer: _version(python, PEERS[peer]) for peer, python in pythons.items()},
        "numpy": next((row["numpy"] for row in rows if "numpy" in row), None),
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _commit() -> str | None:
    """Give the commit, with `+` where files differ from it; None outside a repository."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain")
    return f"{commit}+" if commit and changed else commit or None


def _version(python: str, package: str) -> str:
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _output(python, "-c", program)


def _output(*command: str) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    return str(outcome.stdout).strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
