"""The one line that a system prints when a round is finished, and its command line.

The same shape as `fedloom run -o json` prints, so that all systems are read by one reader.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Assignment:
    """What a peer is asked: train `rounds` rounds on the files in `data`; `scratch` is its own."""

    data: Path
    rounds: int
    scratch: Path


def read_assignment(description: str) -> Assignment:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    arguments = parser.parse_args()
    return Assignment(arguments.data, arguments.rounds, arguments.scratch)


def print_round(number: int, metrics: Mapping[str, float]) -> None:
    """Tell that a round is aggregated and evaluated. Flushed: the reader takes the time."""
    line = {"event": "round", "round": number, "metrics": dict(metrics)}
    print(json.dumps(line), flush=True)
