"""The top of the page: whose run it is, how it stands, the last figures, and where things are."""

from __future__ import annotations

from collections.abc import Iterable

from cli.report_page.drawing import place
from cli.report_page.facts import Job, Run, Tracking
from cli.report_page.wording import (
    NONE,
    bytes_text,
    count_text,
    moment_text,
    number_text,
    plural,
    seconds_text,
    text,
)
from fedloom.tracking.vocabulary import UID_TAG

_MOST_TILES = 6
_PHASES = {"Succeeded": ("good", "Complete"), "Failed": ("bad", "Failed")}


def headline(run: Run) -> str:
    """The header of the page."""
    job = run.job
    return "".join(
        [
            '<header><p class="over">Federated learning run</p>',
            f"<h1>{text(job.namespace)}/{text(job.name)}</h1>",
            f"<p>{_standing(run)}</p>",
            _progress(rounds_done(run), job.rounds),
            *(f'<p class="warn">{text(words, 600)}</p>' for words in _warnings(run)),
            _tiles(run),
            _list(_facts(run)),
            "</header>\n",
        ]
    )


def rounds_done(run: Run) -> int:
    """Rounds that clients took part in: round 0 makes the first model."""
    return run.rounds[-1].number if run.rounds else 0


def last_metrics(run: Run) -> dict[str, float | None]:
    """The last measured value of each metric."""
    found: dict[str, float | None] = {}
    for one in run.rounds:
        found.update(one.metrics)
    return found


def in_order(metrics: Iterable[str]) -> list[str]:
    """Names by the alphabet, the evaluation's before the clients'."""
    return sorted(metrics, key=lambda name: (name.startswith("train/"), name))


def _standing(run: Run) -> str:
    style, phase = _PHASES.get(run.phase, ("", "Not finished"))
    done = f"{count_text(rounds_done(run))} of {plural(run.job.rounds, 'round')} done"
    if run.reason in ("PrivacyBudgetSpent", "StopConditionMet"):
        more = run.message
    elif run.phase in _PHASES:
        more = ""
    elif not run.rounds:
        more = "no round is committed yet"
    else:
        more = f"it is running or was stopped; the last round was committed {_last_moment(run)}"
    ended = f". {text(more[:1].upper() + more[1:], 600)}" if more else ""
    return f'<span class="phase {style}">{phase}</span> · {done}{ended}'


def _warnings(run: Run) -> list[str]:
    failure = [f"{run.reason}: {run.message}"] if run.phase == "Failed" else []
    return [*failure, *run.damage]


def _last_moment(run: Run) -> str:
    return moment_text(run.rounds[-1].finished) if run.rounds else NONE


def _progress(done: int, rounds: int) -> str:
    part = min(done / max(rounds, 1), 1.0)
    return (
        '<svg class="progress" viewBox="0 0 1000 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="1000" height="6"/>'
        f'<rect width="{place(1000 * part)}" height="6"/></svg>'
    )


def _tiles(run: Run) -> str:
    metrics = last_metrics(run)
    shown = in_order(metrics)[:_MOST_TILES]
    tiles = [(number_text(metrics[name]), name) for name in shown]
    if run.rounds:
        seconds = [one.seconds for one in run.rounds if one.seconds is not None]
        tiles += [
            (bytes_text(sum(one.uplink_bytes for one in run.rounds)), "sent up by clients"),
            (bytes_text(sum(one.downlink_bytes for one in run.rounds)), "sent down to clients"),
            (seconds_text(sum(seconds)), "in committed rounds"),
        ]
    cells = "".join(
        f"<div><b>{value}</b><span>{text(name, 80)}</span></div>" for value, name in tiles
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def _facts(run: Run) -> list[tuple[str, str]]:
    job, model = run.job, run.model
    facts = [
        ("Algorithm", text(job.algorithm)),
        ("Codec", f"up {text(job.uplink)}, down {text(job.downlink)}"),
        ("Clients", _clients(job)),
        *([("Privacy", text(run.privacy))] if run.privacy else []),
        ("Job's uid", f"<code>{text(job.uid)}</code>"),
        ("Begun", moment_text(job.created)),
        ("Last round", _last_moment(run)),
    ]
    if model is not None:
        size = [bytes_text(model.size_bytes)] if model.size_bytes is not None else []
        if model.parameters is not None:
            size.append(f"{count_text(model.parameters)} parameters")
        facts += [
            ("Model", f"<code>{text(model.uri, 1000)}</code>"),
            ("", f"<code>{text(model.digest)}</code> {', '.join(size)}"),
        ]
    else:
        facts.append(("Artifacts", f"<code>{text(run.place, 1000)}</code>"))
    facts.append(("MLflow", _tracking(run.tracking, job.uid)))
    return facts


def _clients(job: Job) -> str:
    parts = [count_text(job.clients)]
    if job.clients_per_round is not None:
        parts.append(f"{count_text(job.clients_per_round)} in each round")
    if job.min_clients is not None:
        parts.append(f"at least {count_text(job.min_clients)} updates for a round to count")
    return ", ".join(parts)


def _tracking(tracking: Tracking | None, uid: str) -> str:
    if tracking is None:
        return "nothing is logged there"
    if tracking.run_id is None or tracking.uri is None:
        return (
            "logged to a server that this folder does not name; the run has the tag "
            f"<code>{UID_TAG} = {text(uid)}</code>"
        )
    through = f", logged through round {count_text(max(tracking.recorded_through, 0))}"
    uri = text(tracking.uri, 1000)
    if tracking.uri.startswith("sqlite:"):
        where = f"<code>mlflow ui --backend-store-uri {uri}</code>"
    elif tracking.uri.startswith(("http://", "https://")):
        where = f'<a href="{uri}">{uri}</a>'
    else:
        where = f"<code>{uri}</code>"
    return f"{where}<br>run <code>{text(tracking.run_id)}</code>{through}"


def _list(facts: Iterable[tuple[str, str]]) -> str:
    """`facts` are names and HTML."""
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"
