"""What people see of a round in Kubeflow Pipelines: scalars of each task, a page of the round. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_ROWS = 1_000
_MOST_TEXT = 300


def client_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """Give the scalars of a client's task; of one that failed why it did."""
    failure = report.get("failure")
    if failure is not None:
        reason, message = str(failure["reason"]), _cut(str(failure["message"]))
        return {"succeeded": 0, "reason": reason, "message": message}
    names = ("num_examples", "num_steps", "seconds", "uplink_bytes", "downlink_bytes")
    scalars = {name: report[name] for name in names if report.get(name) is not None}
    return {"succeeded": 1, **scalars, **(report.get("metrics") or {})}


def round_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Give the scalars of a committed round: its metrics, who took part, what it sent."""
    succeeded, failed = _counts(result)
    return {
        "round": result["round"],
        "clients_succeeded": succeeded,
        "clients_failed": failed,
        "seconds": result["seconds"],
        **result["traffic"],
        **result["metrics"],
    }


def model_metadata(result: Mapping[str, Any], tracking: Mapping[str, str]) -> dict[str, Any]:
    """Give what is known of the model of a committed round; `tracking`: `run_id` and `url` of MLflow."""
    model = result["model"]
    known = {f"mlflow_{name}": value for name, value in tracking.items() if value}
    return {
        "job": f"{result['job']['namespace']}/{result['job']['name']}",
        "round": result["round"],
        "num_clients": _counts(result)[0],
        "digest": model["digest"],
        "store_uri": model["uri"],
        "size_bytes": model["size_bytes"],
        **known,
    }


def round_page(result: Mapping[str, Any], tracking: Mapping[str, str]) -> str:
    """Write the page of a committed round in Markdown: metrics, clients, model."""
    succeeded, failed = _counts(result)
    lines = [
        f"# {result['job']['name']}: round {result['round']} of {result['rounds']}",
        "",
        f"{succeeded} clients, {failed} failed, {result['seconds']:.1f} s, "
        f"{_bytes(result['traffic']['uplink_bytes'])} up, "
        f"{_bytes(result['traffic']['downlink_bytes'])} down.",
        *_table(("metric", "value"), [(n, _number(v)) for n, v in result["metrics"].items()]),
        *_clients(result["clients"]),
        "",
        "## Model",
        "",
        f"- `{result['model']['uri']}`",
        f"- `{result['model']['digest']}`",
    ]
    if tracking.get("url"):
        lines.append(f"- [MLflow run]({tracking['url']})")
    return "\n".join(lines) + "\n"


def _clients(clients: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not clients:
        return []
    rows = [_row(name, clients[name]) for name in sorted(clients)[:MOST_ROWS]]
    head = ("client", "node", "state", "examples", "seconds", "up", "metrics")
    more = len(clients) - len(rows)
    rest = ["", f"and {more} more: result.json of the round has them all"] if more else []
    return ["", "## Clients", *_table(head, rows), *rest]


def _row(name: str, client: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(client["state"])
    if client.get("reason"):
        state = f"{state}: {client['reason']} ({client.get('message') or ''})"
    metrics = ", ".join(f"{key} {_number(value)}" for key, value in client["metrics"].items())
    examples, seconds = client.get("num_examples"), client.get("seconds")
    sent = client.get("uplink_bytes")
    return (
        name,
        str(client.get("node") or ""),
        state,
        "" if examples is None else str(examples),
        "" if seconds is None else f"{seconds:.1f}",
        "" if sent is None else _bytes(sent),
        metrics,
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    ruled = [head, tuple("---" for _ in head), *rows]
    return ["", *(f"| {' | '.join(map(_cell, row))} |" for row in ruled)]


def _cell(text: str) -> str:
    """Keep a text that others wrote inside its cell, and from being anything but text."""
    plain = " ".join(_cut(text).split())
    for mark in ("\\", "|", "<", "[", "`", "!"):
        plain = plain.replace(mark, "\\" + mark)
    return plain


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."


def _number(value: float) -> str:
    return f"{value:.6g}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _counts(result: Mapping[str, Any]) -> tuple[int, int]:
    states = [client["state"] for client in result["clients"].values()]
    return states.count("Succeeded"), len(states) - states.count("Succeeded")
