"""Warm training classes: a script is executed once per client, its class made once, called every round."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.errors import UpdateError
from fedloom.training import script
from fedloom.training.context import Client


class Trainers:
    """The classes and instances that live in this process, by client."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, ...], type[Any]] = {}
        self._instances: dict[tuple[str, ...], Any] = {}

    def class_of(self, client: str, path: Path, arguments: Sequence[str]) -> type[Any]:
        """Execute the script for this client unless that was done, and give the class it handed over.

        One execution per client, not one for all: globals and what is read from the environment at
        import time stay each client's own.
        """
        key = (client, str(path), *arguments)
        if key not in self._classes:
            self._classes[key] = execute(path, arguments)
        return self._classes[key]

    def instance_of(self, client: Client, path: Path, arguments: Sequence[str]) -> Any:
        key = (client.name, str(path), *arguments)
        if key not in self._instances:
            self._instances[key] = self.class_of(client.name, path, arguments)(client)
        return self._instances[key]


def execute(path: Path, arguments: Sequence[str]) -> type[Any]:
    """Execute the script as `__main__` and give the class it handed to `fedloom.main`.

    Raises UpdateError("ScriptFailed") where it handed over none; what the script raises passes.
    """
    received: list[type[Any]] = []
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    if sys.path[:1] != [str(path.parent)]:
        sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    code = compile(path.read_bytes(), str(path), "exec")
    with script.received_by(received.append):
        exec(code, module.__dict__)  # noqa: S102  running the user's script is the product
    if not received:
        raise UpdateError("ScriptFailed", f"{path.name} ended without calling fedloom.main(...)")
    sys.modules[f"fedloom_script_{len(sys.modules)}"] = (
        module  # its globals live as long as its class
    )
    return received[-1]


class Environment:
    """The variables of this process: those it started with, and the last client's on top."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}
        self._now: dict[str, str] = {}

    def become(self, variables: Mapping[str, str]) -> None:
        """Make `variables` the process's own; what the last client had and this one has not goes."""
        for name in self._now.keys() - variables.keys():
            before = self._before.pop(name)
            del self._now[name]
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        for name, value in variables.items():
            if self._now.get(name) != value:
                self._before.setdefault(name, os.environ.get(name))
                os.environ[name] = self._now[name] = value
