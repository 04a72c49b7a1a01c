"""How fast each codec encodes and decodes, on one core, and in how much memory.

    python benchmarks/codecs.py [--parameters 25000000] [--repeats 7]

Every codec of the registry, with its default parameters (of `dgc` after its warm-up), in a process of its
own with one thread, on a nearly square matrix of normally distributed float32. MB/s counts the float32
input, whatever it is encoded to; the median.

- **encode**: one tensor of all parameters, noise included.
- **decode and accumulate**: what the server does with an update: decode 65,536 values at a time into
  the same memory, times a weight, onto a sum. From parts in memory: no file is read.
- **bytes per parameter**: of all parts.
- **error**: the root mean square of (decoded - input) over that of the input, for one update. What is
  left out stays on the client and comes later, where the codec has error feedback.
- **memory**: the peak of resident memory over what was resident before, less the parts that `encode`
  gives back; it must not grow with the tensor.

Prints a table and writes `benchmarks/results/codecs.json`. Ends with 1 where a lossy codec misses
300 MB/s of encoding or 600 MB/s of decoding. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import provenance

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}
LEAST_ENCODE_MB_PER_SECOND, LEAST_DECODE_MB_PER_SECOND = 300, 600
WEIGHT = np.float32(0.1)
AFTER_WARM_UP = 10_001

Row = dict[str, Any]


def main() -> int:
    """Measure every codec, print the table, write the results; 1 if one is too slow or failed."""
    options = parse()
    if options.case:
        print(json.dumps(measure(options.case, options.parameters, options.repeats)))
        return 0
    from fedloom.algorithms.compression.registry import CODECS

    about = provenance.describe(("numpy",))
    rows = [run_case(name, options.parameters, options.repeats) for name in CODECS]
    print(as_table(rows))
    report = {"benchmark": "codecs", **about, "parameters": options.parameters, "rows": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    return int(any("error_message" in row or is_slow(row) for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=25_000_000, help="values to encode")
    parser.add_argument("--repeats", type=int, default=7, help="runs to take the median of")
    default = ROOT / "benchmarks" / "results" / "codecs.json"
    parser.add_argument("--output", type=Path, default=default, help="where the JSON goes")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # one codec, in this process
    return parser.parse_args()


def run_case(name: str, parameters: int, repeats: int) -> Row:
    """Measure one codec in a child process; `error_message` in the row where that failed."""
    command = [sys.executable, __file__, "--case", name]
    command += ["--parameters", str(parameters), "--repeats", str(repeats)]
    load = round(os.getloadavg()[0], 2)
    outcome = subprocess.run(
        command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, check=False
    )
    row: Row = {"codec": name, "load": load}
    if outcome.returncode:
        message = (outcome.stderr.strip() or "no message").splitlines()[-1]
        return {**row, "error_message": message}
    return {**row, **json.loads(outcome.stdout.splitlines()[-1])}


def measure(name: str, parameters: int, repeats: int) -> Row:
    """Measure one codec in this process."""
    from fedloom.algorithms.compression.registry import codec

    made = codec(name, {}, AFTER_WARM_UP)
    values = np.random.default_rng(0).standard_normal(parameters, dtype=np.float32)
    values = values.reshape(rows_of(parameters), -1)
    rng = np.random.Generator(np.random.PCG64(1))
    parts = made.encode(values, rng)  # also: the first run, which finds cold memory
    parts_bytes = sum(part.nbytes for part in parts.values())
    total = np.zeros_like(values)
    accumulate(made, parts, total)
    error = root_mean_square(total / WEIGHT - values) / root_mean_square(values)
    megabytes = values.nbytes / 1e6
    encode = [megabytes / seconds(lambda: made.encode(values, rng)) for _ in range(repeats)]
    decode = [megabytes / seconds(lambda: accumulate(made, parts, total)) for _ in range(repeats)]
    kept: list[object] = []
    encode_bytes = peak_bytes(lambda: kept.append(made.encode(values, rng))) - parts_bytes
    return {
        "settings": dict(made.parameters),
        "encode_mb_per_second": round(statistics.median(encode), 1),
        "decode_mb_per_second": round(statistics.median(decode), 1),
        "bytes_per_parameter": parts_bytes / parameters,
        "relative_error": float(f"{error:.4g}"),
        "encode_memory_bytes": max(0, encode_bytes),
        "decode_memory_bytes": peak_bytes(lambda: accumulate(made, parts, total)),
    }


def rows_of(parameters: int) -> int:
    """Give the largest divisor up to the square root: the rows of the squarest matrix there is."""
    return next(rows for rows in range(math.isqrt(parameters), 0, -1) if parameters % rows == 0)


def accumulate(made: Any, parts: dict[str, Any], total: Any) -> None:
    """Add WEIGHT times the decoded values to `total`, as the weighted mean does."""
    from fedloom.algorithms.compression.protocol import ArrayParts
    from fedloom.algorithms.layout import BLOCK_ELEMENTS

    reader = ArrayParts(parts)
    scratch = np.empty(BLOCK_ELEMENTS, np.float32)
    shape, total = total.shape, total.reshape(-1)
    for start in range(0, total.size, BLOCK_ELEMENTS):
        stop = min(start + BLOCK_ELEMENTS, total.size)
        block = scratch[: stop - start]
        made.decode(reader, shape, start, stop, block)
        np.multiply(block, WEIGHT, out=block)
        np.add(total[start:stop], block, out=total[start:stop])


def root_mean_square(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def peak_bytes(run: Callable[[], object]) -> int:
    """Give the peak of resident memory while `run` runs, over what is resident before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # free pages that the allocator holds would hide a need
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    base = status_bytes("VmRSS")
    run()
    return status_bytes("VmHWM") - base


def status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def is_slow(row: Row) -> bool:
    """Whether a codec misses its rates; `none` only copies, which says something of the memory."""
    return row["codec"] != "none" and (
        row["encode_mb_per_second"] < LEAST_ENCODE_MB_PER_SECOND
        or row["decode_mb_per_second"] < LEAST_DECODE_MB_PER_SECOND
    )


HEADINGS = ("codec", "encode", "decode+add", "bytes/param", "ratio", "error", "MiB enc", "MiB dec")
WIDTHS = (8, 10, 12, 13, 8, 10, 9, 9)


def as_table(rows: list[Row]) -> str:
    lines = [aligned(HEADINGS), "-" * sum(WIDTHS)]
    lines += [as_line(row) for row in rows]
    return "\n".join([*lines, "rates in MB/s of float32 input, one core"])


def as_line(row: Row) -> str:
    if "error_message" in row:
        return f"{row['codec']}: failed: {row['error_message']}"
    return aligned(
        (
            row["codec"],
            f"{row['encode_mb_per_second']:.0f}",
            f"{row['decode_mb_per_second']:.0f}",
            f"{row['bytes_per_parameter']:.4f}",
            f"{4 / row['bytes_per_parameter']:.1f}x",
            f"{row['relative_error']:.2%}",
            f"{row['encode_memory_bytes'] / 2**20:.1f}",
            f"{row['decode_memory_bytes'] / 2**20:.1f}",
        )
    )


def aligned(cells: tuple[str, ...]) -> str:
    first, *others = zip(cells, WIDTHS, strict=True)
    return first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)


if __name__ == "__main__":
    sys.exit(main())
