"""deliver (anywhere, after the last round): copy the final model to where one Model of the job says.

    python -I -m components.deliver --order order.json --workdir DIR --target FOLDER

The order names the model (`digest`), the `file` and either nothing more, for a file in the folder of a node
that is mounted at FOLDER, or `is_object`, for an object of S3. Its `urls` are presigned: one that reads
the model and, for an object, one that writes it. A file appears whole or not at all; one that is there
already and is the same is left alone. The last line that is printed is a JSON object: state, reason, message.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.exported import NPZ, write_as
from fedloom.artifacts.artifact import digest_of_file
from fedloom.artifacts.presigned import PresignedStore
from fedloom.errors import FedloomError, JobError

MODEL = "model.safetensors"
"""The key of the model in the order's URLs, to be read and, as an object, to be written."""


def run(order: Mapping[str, Any], store: PresignedStore, work: Path, target: Path) -> bool:
    """Carry out an order; say whether anything was written. Raises JobError, StoreUnavailableError."""
    file = target / Path(str(order["file"])).name
    if not order.get("is_object") and _is_there(file, str(order["digest"])):
        return False
    model = store.materialize(MODEL, work, digest=str(order["digest"]))
    if not order.get("is_object"):
        write_as(model, file)
        return True
    if file.suffix.lower() == NPZ:
        converted = work / "model.npz"
        write_as(model, converted)
        model = converted
    store.put_file(MODEL, model)
    return True


def _is_there(file: Path, digest: str) -> bool:
    return file.is_file() and digest_of_file(file) == digest


def main() -> int:
    parser = argparse.ArgumentParser(prog="components.deliver")
    parser.add_argument("--order", required=True, type=Path, help="a JSON file")
    parser.add_argument("--workdir", required=True, type=Path, help="for the model on its way")
    parser.add_argument("--target", type=Path, default=Path("/"), help="the folder to write into")
    given = parser.parse_args()
    said: dict[str, Any] = {"step": "deliver", "state": "Succeeded"}
    try:
        order = json.loads(given.order.read_bytes())
        store = PresignedStore.of_file(given.order)
        said["is_new"] = run(order, store, given.workdir, given.target)
    except (FedloomError, OSError, ValueError, KeyError) as error:
        reason = error.reason if isinstance(error, JobError) else type(error).__name__
        said |= {"state": "Failed", "reason": reason, "message": str(error)}
    print(json.dumps(said), flush=True)
    return 0 if said["state"] == "Succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
