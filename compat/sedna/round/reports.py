"""A worker's reports to the local controller of its node: best effort, never in training's way."""

import atexit
import json
import os
import threading
import time
from typing import Any, Dict, List, Optional
from urllib.parse import quote

from ..common.log import LOGGER

__all__ = ("send", "task_info")

TIMEOUT_SECONDS = 2.0
_waiting: List[threading.Thread] = []


def send(
    info: Optional[Dict[str, Any]], status: str, results: Optional[Any] = None, kind: str = "train"
) -> None:
    """Post a report to LC_SERVER in the background; without LC_SERVER there is nobody to tell.

    `status`: running, completed or failed. What goes wrong is logged and has no other effect.
    """
    server = os.environ.get("LC_SERVER", "").rstrip("/")
    name = os.environ.get("WORKER_NAME") or os.environ.get("FEDLOOM_CLIENT", "")
    if not server.startswith(("http://", "https://")) or not name:
        return
    body = {
        "name": name,
        "namespace": os.environ.get("NAMESPACE", ""),
        "ownerName": os.environ.get("JOB_NAME", ""),
        "ownerKind": "federatedlearningjob",
        "kind": kind,
        "status": status,
    }  # type: Dict[str, Any]
    if info:
        body["ownerInfo"] = info
    if results:
        body["results"] = results
    url = "{}/sedna/workers/{}/info".format(server, quote(name, safe=""))
    thread = threading.Thread(target=_post, args=(url, body), daemon=True)
    if not _waiting:
        atexit.register(_wait)
    _waiting.append(thread)
    thread.start()


def task_info(round_number: int, samples: int, started: float) -> Dict[str, Any]:
    """Give the `ownerInfo` of a report; `samples` are this worker's own, `started` a time.time()."""
    return {
        "currentRound": round_number,
        "sampleCount": samples,
        "startTime": _moment(started),
        "updateTime": _moment(time.time()),
    }


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _post(url: str, body: Dict[str, Any]) -> None:
    import urllib.request  # most runs have nobody to tell, and it takes a while to load

    try:
        request = urllib.request.Request(  # noqa: S310 (the scheme was looked at)
            url,
            data=json.dumps(body, default=str).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        # A node's own address: no proxy of the container's environment stands in between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT_SECONDS) as reply:
            reply.read(1000)
    except Exception as error:
        LOGGER.warning("the report to %s did not arrive: %s%s", url, error, _said_by(error))


def _said_by(error: Exception) -> str:
    """Give what a server that refused said about it."""
    read = getattr(error, "read", None)
    said = read(500).decode("utf-8", "replace") if read is not None else ""
    return ": " + said if said else ""


def _wait() -> None:
    """Before the process ends: let reports that are under way arrive, for a moment."""
    deadline = time.time() + TIMEOUT_SECONDS
    for thread in _waiting:
        thread.join(max(0.0, deadline - time.time()))
