"""Flower's own virtual environment, made on first use and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# `run_simulation` is announced to go; a later Flower needs another program here.
REQUIREMENT = "flwr[simulation]==1.41.*"
# Makes Ray take the loopback for the node's address and so listen there only. The way that offers
# itself, `_node_ip_address="127.0.0.1"`, does not: Ray puts the machine's outward address in its
# place, and its servers then listen on every interface.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# No telemetry, no look for updates, no usage report.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_VERSIONS = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({name: m.version(name) for name in ('flwr', 'ray', 'numpy')}))"
)


def ensure(folder: Path) -> Path:
    """Give the interpreter of Flower's environment in `folder`, made by venv and pip if missing.

    It gets this process's version of numpy, so that equal seeds give equal bits in both.
    """
    python = folder / "bin" / "python"
    if not _is_complete(python):
        print(f"installing {REQUIREMENT} (once, about a minute)", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        packages = [REQUIREMENT, f"numpy=={metadata.version('numpy')}"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def _is_complete(python: Path) -> bool:
    if not python.exists():
        return False
    outcome = subprocess.run([str(python), "-c", _VERSIONS], capture_output=True, check=False)
    return outcome.returncode == 0 and json.loads(outcome.stdout)["numpy"] == metadata.version(
        "numpy"
    )


def versions(python: Path) -> dict[str, str]:
    """Give the versions of flwr, ray and numpy in the environment."""
    outcome = subprocess.run([str(python), "-c", _VERSIONS], capture_output=True, check=True)
    found: dict[str, str] = json.loads(outcome.stdout)
    return found
