"""The local controller's settings: variables of its environment, read once.

FEDLOOM_LC_CLOUD            host:port of the controller's edge link, as this node reaches it
FEDLOOM_LC_NODE             this node's name, as Kubernetes has it
FEDLOOM_LC_STATE            the folder that keeps all; /var/lib/fedloom/local-controller if unset
FEDLOOM_LC_TOKEN            the file with the service-account token; /var/run/fedloom/token if unset
FEDLOOM_LC_AUTHORITY        the file with the installation's certificate;
                            /etc/fedloom/authority/ca.crt if unset
FEDLOOM_LC_DATA             folders whose Datasets are counted, with commas between; /data if unset
FEDLOOM_LC_DATA_PREFIX      where the node's folders are seen here; empty if they are seen as on the node
FEDLOOM_LC_COUNT_SECONDS    how often Datasets are looked at; 60 if unset
FEDLOOM_LC_WORKER_LISTEN    host:port, with commas between, for workers of this node; 127.0.0.1:9100 if unset
FEDLOOM_LC_WORKER_NETWORKS  networks of this node's pods, with commas between; workers come from there or from
                            the node itself, everybody else is refused
FEDLOOM_LC_LISTEN           host:port for the cloud, TLS both ways; 127.0.0.1:9443 if unset, empty for none
FEDLOOM_LC_MESSAGES         how many messages are kept while the cloud is away; 10000 if unset
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedloom.errors import InvalidJobError, Problem

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Settings:
    """See the module."""

    cloud: tuple[str, int]
    node: str
    state: Path
    token: Path
    authority: Path
    data: tuple[str, ...]
    data_prefix: Path
    count_seconds: float
    worker_listen: tuple[tuple[str, int], ...]
    worker_networks: tuple[Network, ...]
    listen: tuple[str, int] | None
    messages: int


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises InvalidJobError with every problem, each at its variable."""
    reading = _Reading(environ)
    listen = reading.addresses("FEDLOOM_LC_LISTEN", "127.0.0.1:9443")
    cloud = reading.addresses("FEDLOOM_LC_CLOUD", "")
    settings = Settings(
        cloud=cloud[0] if cloud else reading.lacking("FEDLOOM_LC_CLOUD"),
        node=environ.get("FEDLOOM_LC_NODE", ""),
        state=Path(environ.get("FEDLOOM_LC_STATE") or "/var/lib/fedloom/local-controller"),
        token=Path(environ.get("FEDLOOM_LC_TOKEN") or "/var/run/fedloom/token"),
        authority=Path(environ.get("FEDLOOM_LC_AUTHORITY") or "/etc/fedloom/authority/ca.crt"),
        data=reading.folders(),
        data_prefix=Path(environ.get("FEDLOOM_LC_DATA_PREFIX") or "/"),
        count_seconds=max(0.05, reading.number("FEDLOOM_LC_COUNT_SECONDS", 60.0)),
        worker_listen=reading.addresses("FEDLOOM_LC_WORKER_LISTEN", "127.0.0.1:9100"),
        worker_networks=reading.networks(),
        listen=listen[0] if listen else None,
        messages=max(1, int(reading.number("FEDLOOM_LC_MESSAGES", 10_000))),
    )
    if not settings.node:
        reading.lacking("FEDLOOM_LC_NODE")
    if reading.problems:
        raise InvalidJobError(reading.problems)
    return settings


class _Reading:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def lacking(self, name: str) -> tuple[str, int]:
        if not any(problem.field == name for problem in self.problems):
            self.problems.append(Problem(name, "got nothing, expected a value"))
        return "", 0

    def parts(self, name: str, default: str) -> list[str]:
        return [
            each.strip() for each in self._environ.get(name, default).split(",") if each.strip()
        ]

    def addresses(self, name: str, default: str) -> tuple[tuple[str, int], ...]:
        found = []
        for each in self.parts(name, default):
            host, _, port = each.rpartition(":")
            if not port.isdecimal() or int(port) > 65535:
                self.problems.append(Problem(name, f"got {each!r}, expected host:port"))
                continue
            found.append((host.strip("[]"), int(port)))
        return tuple(found)

    def networks(self) -> tuple[Network, ...]:
        found: list[Network] = []
        name = "FEDLOOM_LC_WORKER_NETWORKS"
        for each in self.parts(name, ""):
            try:
                found.append(ipaddress.ip_network(each))
            except ValueError:
                self.problems.append(
                    Problem(name, f"got {each!r}, expected a network as 10.244.0.0/16")
                )
        return tuple(found)

    def folders(self) -> tuple[str, ...]:
        name = "FEDLOOM_LC_DATA"
        found = self.parts(name, "/data")
        for each in found:
            if not each.startswith("/") or ".." in Path(each).parts:
                self.problems.append(Problem(name, f"got {each!r}, expected an absolute path"))
        return tuple(found)

    def number(self, name: str, default: float) -> float:
        text = self._environ.get(name) or str(default)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            self.problems.append(Problem(name, f"got {text!r}, expected a number from 0"))
            return default
        return value
