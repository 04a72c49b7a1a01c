"""What a measurement was taken on: commit, versions, processor, date. Names no path and no host."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def describe(packages: tuple[str, ...]) -> dict[str, Any]:
    """Describe this checkout and machine; `packages` are looked up in the running environment."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": {
            "model": _cpu_model(),
            "cores": os.cpu_count(),
            "load_average_at_start": round(os.getloadavg()[0], 2),
        },
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), **_versions(packages)},
    }


def commit() -> str:
    """Give the commit, with `+changes` where files differ from it; `none` where there is none."""
    head = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        return "none"
    return f"{head}+changes" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parent
    command = ["git", *arguments]
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return outcome.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
