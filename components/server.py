"""server (cloud): run a whole group of our own steps in one process, as a container does:

    python -I -m components.server --plan plan.json --store URI --workdir DIR --group server

A start of Python for each of aggregate, broadcast and commit would take longer than their work does.
"""

from __future__ import annotations

from typing import Any

from components.command import Steps, run_group_command
from components.request import Place
from components.sequence import run_group
from components.user_code import UserCode


def run(steps: Steps, place: Place) -> dict[str, Any]:
    """Run the group. What failed before it is found out from what is missing in the store."""
    place.work.mkdir(parents=True, exist_ok=True)
    run_group(steps, place, UserCode(), {})
    return {"steps": list(steps)}


if __name__ == "__main__":
    run_group_command("server", run)
