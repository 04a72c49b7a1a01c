"""The sections with tables: clients, and what failed."""

from __future__ import annotations

from cli.report_page.bar_chart import small_bar
from cli.report_page.facts import ClientFigures, FailedAttempt, FailureFigures, Run
from cli.report_page.section import Cell, note, section, table
from cli.report_page.wording import (
    NONE,
    bytes_text,
    count_text,
    moment_text,
    natural_order,
    plural,
    seconds_text,
    text,
)

MOST_CLIENTS = 50
_MOST_FAILURES = 20
_MOST_ATTEMPTS = 50
_MOST_REASONS = 3
_MOST_NAMES = 6


def clients_section(run: Run) -> str:
    """One row for each client, or for the slowest ones."""
    clients = list(run.details.clients.values())
    if not clients:
        return ""
    shown = sorted(clients, key=lambda client: natural_order(client.name))
    notes = []
    if len(clients) > MOST_CLIENTS:
        shown = sorted(clients, key=_slowness)[:MOST_CLIENTS]
        notes.append(f"The {MOST_CLIENTS} slowest of {count_text(len(clients))} clients.")
    if run.details.rounds < len(run.rounds):
        notes.append(
            f"Counted over the last {plural(run.details.rounds, 'round')}: the results of the "
            "earlier ones are too large to be looked into."
        )
    if any(attempt.round > 0 for attempt in run.attempts):
        notes.append("Failures in attempts that gave no model count too.")
    return section("Clients", note(" ".join(notes)), _client_table(shown, clients))


def failures_section(run: Run) -> str:
    """Clients' failures by their reason, and the attempts that gave no model."""
    failures = sorted(run.details.failures.values(), key=lambda found: (-found.count, found.reason))
    parts = []
    if failures:
        parts.append(_failure_table(failures[:_MOST_FAILURES]))
    if len(failures) > _MOST_FAILURES:
        parts.append(note(f"The {_MOST_FAILURES} most frequent of {len(failures)} reasons."))
    if run.attempts:
        parts.append(note(_attempts_note(len(run.attempts))))
        parts.append(_attempt_table(run.attempts[-_MOST_ATTEMPTS:]))
    return section("Failures", *parts) if parts else ""


def _slowness(client: ClientFigures) -> tuple[float, str]:
    return (-(client.mean_seconds if client.mean_seconds is not None else -1.0), client.name)


def _client_table(shown: list[ClientFigures], clients: list[ClientFigures]) -> str:
    most_examples = max((one.examples or 0 for one in clients), default=0)
    most_seconds = max((one.mean_seconds or 0.0 for one in clients), default=0.0)
    most_bytes = max((one.uplink_bytes for one in clients), default=0)
    has_nodes = any(one.node for one in shown)
    head: list[Cell] = [("", "client")]
    if has_nodes:
        head.append(("", "node"))
    for name in ("examples", "mean time", "sent up"):
        head += [("count", name), ("", "")]
    head += [("count", "rounds"), ("count", "failed"), ("", "reasons")]
    rows = []
    for one in shown:
        row: list[Cell] = [("name", text(one.name, 80))]
        if has_nodes:
            row.append(("name", text(one.node or NONE, 80)))
        examples = NONE if one.examples is None else count_text(one.examples)
        row += [("count", examples), ("bar", small_bar(one.examples, most_examples))]
        row += [
            ("count", seconds_text(one.mean_seconds)),
            ("bar", small_bar(one.mean_seconds, most_seconds)),
        ]
        row += [
            ("count", bytes_text(one.uplink_bytes)),
            ("bar", small_bar(one.uplink_bytes, most_bytes)),
        ]
        row += [("count", count_text(one.succeeded)), ("count", _failed(one))]
        rows.append([*row, ("name", _reasons(one))])
    return table(head, rows)


def _failed(client: ClientFigures) -> str:
    return f'<span class="bad">{count_text(client.failed)}</span>' if client.failed else "0"


def _reasons(client: ClientFigures) -> str:
    reasons = client.failures.most_common(_MOST_REASONS)
    words = [
        reason if len(client.failures) == 1 else f"{reason} {count_text(times)}"
        for reason, times in reasons
    ]
    if len(client.failures) > _MOST_REASONS:
        words.append(f"and {len(client.failures) - _MOST_REASONS} more")
    return text(", ".join(words))


def _failure_table(failures: list[FailureFigures]) -> str:
    head = [("", "reason"), ("count", "times"), ("", "clients"), ("", "latest message")]
    rows = []
    for one in failures:
        number, name, message = one.example
        names = sorted(one.clients, key=natural_order)[:_MOST_NAMES]
        shown = ", ".join(text(client, 40) for client in names)
        if len(one.clients) > len(names):
            shown = f"{count_text(len(one.clients))}: {shown}, …"
        said = f"{text(name, 60)} in round {count_text(number)}: {text(message)}"
        rows.append(
            [
                ("word", text(one.reason, 40)),
                ("count", count_text(one.count)),
                ("name", shown),
                ("words", said),
            ]
        )
    return table(head, rows)


def _attempts_note(count: int) -> str:
    more = f"; the last {_MOST_ATTEMPTS} of them" if count > _MOST_ATTEMPTS else ""
    return f"{plural(count, 'attempt')} at a round gave no model{more}."


def _attempt_table(attempts: tuple[FailedAttempt, ...]) -> str:
    head = [
        ("count", "round"),
        ("count", "attempt"),
        ("", "ended"),
        ("", "reason"),
        ("", "message"),
    ]
    rows = [
        [
            ("count", count_text(one.round)),
            ("count", count_text(one.attempt)),
            ("word", moment_text(one.finished)),
            ("word", text(one.reason, 40)),
            ("words", text(one.message, 300)),
        ]
        for one in attempts
    ]
    return table(head, rows)
