"""What a container of a pipeline is told: its tasks of the round's plan, and how it gets to the store.

--plan FILE              a client's slice with its presigned URLs, or the server's tasks, from a Secret
--plan FILE --selector   one file for many clients: whose turn it is on the node that the loop names
--run ID --round N       the plan lies in the job's store; so do keys, in a Secret of the user's
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import ArtifactNotFoundError, JobError

if TYPE_CHECKING:
    from fedloom.artifacts.store import Store

PATIENCE_SECONDS = 180.0
HOSTNAME = "kubernetes.io/hostname"
JOB_FILE = "job.json"
"""In the store of a job that runs as one pipeline: its documents."""
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Told:
    """What this container has to do.

    Attributes:
        plan: the plan's head and, at least, the tasks of the group.
        tasks: of the group, in order; empty where a round does not ask for this client.
        client: whose group it is; None for the server's.
        store: the job's.
    """

    plan: Mapping[str, Any]
    tasks: tuple[Mapping[str, Any], ...]
    client: str | None
    store: Store

    @property
    def may_fail(self) -> bool:
        """Whether an end without success is data to the tasks behind this one."""
        return all(task["may_fail"] for task in self.tasks)

    @property
    def deadline_seconds(self) -> float | None:
        """How long a client's tasks may take; the server's pod has a deadline of its own."""
        found = [task["deadline_seconds"] for task in self.tasks if task["deadline_seconds"]]
        return max(found, default=None) if self.client is not None else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the store and of the plan."""
    parser.add_argument("--plan", type=Path, help="the plan, or a slice of it, from a Secret")
    parser.add_argument("--store", default="", help="the job's store: s3://..., file:///...")
    parser.add_argument("--endpoint", default="", help="of S3")
    parser.add_argument("--keys", type=Path, help="folder with the keys of the store, a file each")
    parser.add_argument("--run", default="", help="the run of a job that is one pipeline")
    parser.add_argument("--round", type=int, default=0, help="which round of that")
    parser.add_argument("--group", default="", help="the group of tasks to do")
    parser.add_argument("--client", default=None, help="whose group")
    parser.add_argument("--step", default="", help="a step of the group, in place of its name")
    parser.add_argument("--selector", default="", help="the node whose client's turn it is, JSON")
    parser.add_argument("--turn", type=int, default=0, help="which client of that node")


def told(arguments: argparse.Namespace) -> Told:
    """Find out what to do. Raises JobError where the pipeline does not fit its Secrets."""
    if arguments.plan is None:
        return _from_store(arguments)
    document = read_plan(arguments.plan)
    client = _client_of(document, arguments)
    if "clients" in document:
        document = {**document["head"], **_entry(document["clients"], client, "client")}
    tasks = _tasks(document, arguments, client)
    if client is None:
        keys = arguments.plan.parent if arguments.keys is None else arguments.keys
        store = open_keyed(arguments.store, arguments.endpoint, keys)
    else:
        from fedloom.artifacts.presigned import PresignedStore

        urls = document["urls"]
        store = PresignedStore(urls["get"], urls["put"])
    return Told(document, tasks, client, store)


def _from_store(arguments: argparse.Namespace) -> Told:
    from fedloom.artifacts import layout

    store = open_run(arguments)
    try:
        plan = json.loads(store.get(layout.plan_key(arguments.round, 1)))
    except ArtifactNotFoundError as error:
        raise JobError(
            "NoPlan", f"round {arguments.round}: {error}: the task `plan` comes first"
        ) from None
    client = arguments.client or None
    is_asked = client is None or client in plan["cohort"]
    return Told(plan, _tasks(plan, arguments, client) if is_asked else (), client, store)


def open_run(arguments: argparse.Namespace) -> Store:
    """Open the store of a job that runs as one pipeline, below where the pipeline keeps its jobs."""
    uri = f"{str(arguments.store).rstrip('/')}/{arguments.run}"
    return open_keyed(uri, arguments.endpoint, arguments.keys)


def open_keyed(uri: str, endpoint: str, keys: Path | None) -> Store:
    """Open a store with the keys that lie in a folder, one file each; a folder needs none."""
    from components.connection import connect

    settings: dict[str, Any] = {"store": uri, "patience_seconds": PATIENCE_SECONDS}
    if uri.startswith("s3:"):
        access, secret, token = (_key(keys, name) for name in _KEYS)
        credentials = {"access_key": access, "secret_key": secret}
        settings["credentials"] = credentials | ({"session_token": token} if token else {})
        settings["endpoint"] = endpoint or None
    return connect(settings)


def _key(folder: Path | None, name: str) -> str:
    path = None if folder is None else folder / name
    if path is None or not path.exists():
        if name == _KEYS[2]:
            return ""
        raise JobError("NoStoreAccess", f"{path or name}: got no file, expected the store's {name}")
    return path.read_text(encoding="utf-8").strip()


def read_plan(path: Path) -> dict[str, Any]:
    """Read what a Secret tells; of very many clients it is packed by gzip. Raises JobError("NoPlan")."""
    try:
        data = path.read_bytes()
        document: dict[str, Any] = json.loads(
            gzip.decompress(data) if data.startswith(_GZIP) else data
        )
    except (OSError, ValueError) as error:
        raise JobError(
            "NoPlan", f"{path}: got {type(error).__name__}, expected a plan of a Secret"
        ) from None
    return document


def _client_of(document: Mapping[str, Any], arguments: argparse.Namespace) -> str | None:
    """Give whose container this is: named, or the one whose turn it is on its node."""
    if not arguments.selector:
        named: str | None = arguments.client or None
        return named
    try:
        node = json.loads(arguments.selector)[HOSTNAME]
    except (ValueError, KeyError, TypeError):
        raise JobError(
            "NoSuchTask", f"--selector: got {arguments.selector!r}, expected {{{HOSTNAME!r}: node}}"
        ) from None
    clients: list[str] = _entry(document["nodes"], node, "node")
    turn: int = arguments.turn
    if turn >= len(clients):
        raise JobError("NoSuchTask", f"node {node!r}: got turn {turn} of {len(clients)}")
    return clients[turn]


def _tasks(
    plan: Mapping[str, Any], arguments: argparse.Namespace, client: str | None
) -> tuple[Mapping[str, Any], ...]:
    tasks = plan["tasks"]
    group = arguments.group or next(
        (
            task["group"]
            for task in tasks
            if task["client"] == client
            and task["step"] in ((arguments.step,) if arguments.step else ("train", "release"))
        ),
        None if client is not None else "server",
    )
    found = tuple(task for task in tasks if task["group"] == group)
    if not found:
        known = ", ".join(sorted({task["group"] for task in tasks}))
        raise JobError("NoSuchTask", f"got the group {group!r}, the plan has {known or 'none'}")
    return found


def _entry(found: Mapping[str, Any], name: str | None, kind: str) -> Any:
    if name is None or name not in found:
        raise JobError("NoSuchTask", f"got the {kind} {name!r}, the plan has {len(found)} others")
    return found[name]
