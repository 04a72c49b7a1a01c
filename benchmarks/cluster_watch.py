"""What happens on a cluster and when, by kubectl alone; works with whatever $KUBECONFIG names."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

Document = dict[str, Any]

_COLUMNS = {
    "workflows.argoproj.io": (".type", ".object.metadata.name", ".object.status.phase"),
    "pods": (
        ".type",
        ".object.metadata.name",
        r".object.metadata.labels.workflows\.argoproj\.io/workflow",
        ".object.status.phase",
    ),
}


class NotSeenError(RuntimeError):
    """What was waited for did not happen in time."""


def kubectl(*arguments: str, documents: Sequence[Document] = ()) -> str:
    """Run kubectl; give what it prints. Raises RuntimeError with what it says."""
    text = yaml.safe_dump_all(documents, sort_keys=False) if documents else None
    found = subprocess.run(
        ["kubectl", *arguments], input=text, capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {found.stderr.strip()}")
    return found.stdout


def read(namespace: str, *what: str) -> Document:
    document: Document = json.loads(kubectl("-n", namespace, "get", *what, "-o", "json"))
    return document


@dataclass
class Seen:
    """When what was seen first; times are those of this machine, in seconds since 1970.

    Attributes:
        workflows, pods: name -> (phase -> time); the phase of what is new is "".
        pods_of: workflow -> names of its pods, in the order of their coming.
    """

    workflows: dict[str, dict[str, float]] = field(default_factory=dict)
    pods: dict[str, dict[str, float]] = field(default_factory=dict)
    pods_of: dict[str, list[str]] = field(default_factory=dict)


class Watch:
    """Two kubectl processes that follow the workflows and pods of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.seen = Seen()
        self._changed = threading.Condition()
        self._processes = [self._follow(namespace, kind) for kind in _COLUMNS]

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()

    def until(self, look: Callable[[Seen], bool], seconds: float, why: str) -> None:
        """Wait until something is seen. Raises NotSeenError."""
        end = time.monotonic() + seconds
        with self._changed:
            while not look(self.seen):
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise NotSeenError(f"not seen within {seconds:g} s: {why}")

    def _follow(self, namespace: str, kind: str) -> subprocess.Popen[str]:
        columns = ",".join(f"C{number}:{path}" for number, path in enumerate(_COLUMNS[kind]))
        command = ["kubectl", "-n", namespace, "get", kind, "--watch", "--output-watch-events"]
        process = subprocess.Popen(
            [*command, "--no-headers", "-o", f"custom-columns={columns}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(process, kind), daemon=True).start()
        return process

    def _read(self, process: subprocess.Popen[str], kind: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            at, (event, name, *rest) = time.time(), line.split()
            if event == "DELETED":
                continue
            workflow = rest.pop(0) if kind == "pods" else None
            phase = rest[0] if rest else ""  # a new workflow has none
            with self._changed:
                of_kind = self.seen.pods if kind == "pods" else self.seen.workflows
                if name not in of_kind and workflow is not None:
                    self.seen.pods_of.setdefault(workflow, []).append(name)
                times = of_kind.setdefault(name, {"": at})
                times.setdefault("" if phase == "<none>" else phase, at)
                self._changed.notify_all()


@contextmanager
def watching(namespace: str) -> Iterator[Watch]:
    watch = Watch(namespace)
    try:
        yield watch
    finally:
        watch.close()


@contextmanager
def forwarded(namespace: str, service: str, port: int) -> Iterator[int]:
    """Bring a Service to this machine; give its local port."""
    command = ["kubectl", "-n", namespace, "port-forward", f"service/{service}", f":{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:41234 -> 9000
        yield int(line.partition("127.0.0.1:")[2].split()[0])
    finally:
        process.terminate()
        process.wait()
