"""search-registry (cloud): ask MLflow's registry for models to begin with, in a process of its own.

One JSON object on standard input, one on standard output:

    {"tracking_uris": [URI], "folder": PATH, "namespace": .., "own_uid": .., "wanted": [{"name", "version",
     "alias", "tags", "like"}]}
    {"answers": [{"candidates": [..], "message": ".."} | {"problem": ".."}]}          one per entry

Models that lie nowhere but in MLflow are fetched into the folder. Of several places all are asked, in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.publish import claim_output
from fedloom.errors import FedloomError, TrackingUnavailableError
from fedloom.tracking.process import prepare_process, show_libraries
from fedloom.tracking.registry import Query, Registry, find


def answer(order: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Answer every entry of an order."""
    return [_answer(order, entry, number) for number, entry in enumerate(order["wanted"])]


def _answer(order: Mapping[str, Any], entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    query = Query(namespace=order["namespace"], own_uid=order["own_uid"], **entry)
    candidates: list[dict[str, Any]] = []
    messages, problem = [], ""
    for place, uri in enumerate(order["tracking_uris"]):
        try:
            folder = Path(order["folder"]) / f"{number}-{place}"
            found = find(_open(uri), query, folder)
            candidates += found["candidates"]
            messages.append(found["message"])
        except FedloomError as error:
            problem = str(error)
    if problem and not candidates:
        return {"problem": problem}
    message = "; ".join(filter(None, messages)) or "there is no registry yet"
    return {"candidates": candidates, "message": "" if candidates else message}


def _open(uri: str) -> Registry:
    try:
        from fedloom.tracking.mlflow_registry import MlflowRegistry
    except ImportError:
        show_libraries()
        try:
            from fedloom.tracking.mlflow_registry import MlflowRegistry
        except ImportError as error:
            raise TrackingUnavailableError(f"MLflow cannot be imported: {error}") from error
    return MlflowRegistry(uri)


def main() -> None:
    channel = claim_output()
    prepare_process()
    answers = answer(json.loads(sys.stdin.buffer.read()))
    channel.write(json.dumps({"answers": answers}).encode())


if __name__ == "__main__":
    main()
