"""cohort (cloud): say who takes part in a round of very many clients, as the items of a pipeline's loops:

    python -I -m components.kfp_cohort --plan /fedloom/plan/clients.json --executor-input '{{$}}'

The pipeline itself names none of them, and so is as small for a thousand as for a hundred.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from components.kfp_output import ExecutorOutput
from components.kfp_told import read_plan
from fedloom.errors import JobError


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Give each output parameter the list of its name in the file, exit."""
    parser = argparse.ArgumentParser(prog="components.kfp_cohort")
    parser.add_argument("--plan", type=Path, required=True, help="the clients, from a Secret")
    parser.add_argument("--executor-input", default="", help="{{$}}")
    arguments = parser.parse_args(given)
    try:
        outputs = ExecutorOutput(arguments.executor_input)
        loops = read_plan(arguments.plan).get("loops", {})
        for name in outputs.parameters:
            if name not in loops:
                raise JobError("NoPlan", f"got no loop {name!r}, the Secret has {sorted(loops)}")
            outputs.give(name, loops[name])
    except JobError as error:
        print(json.dumps({"state": "Failed", "reason": error.reason, "message": str(error)}))
        sys.exit(1)
    outputs.write()
    sizes = {name: len(items) for name, items in loops.items()}
    print(json.dumps({"state": "Succeeded", "clients": sizes}), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
