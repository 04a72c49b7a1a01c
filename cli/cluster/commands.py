"""The commands for a cluster and their options; the modules behind them are loaded when one is called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_CONNECTION = (
    click.option("-n", "--namespace", help="Namespace of the job [the context's]."),
    click.option("--context", help="Context of the kubeconfig [the current one]."),
    click.option("--kubeconfig", help="The kubeconfig [$KUBECONFIG, ~/.kube/config]."),
)
_NAME = click.argument("name", metavar="NAME|@latest")
_EVENTS = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
_TIMEOUT = click.option(
    "--timeout", type=click.FloatRange(min=0.0), help="Give up after so many seconds, with 1."
)


def _connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of kubectl that say which cluster and namespace."""
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


def _open(options: dict[str, Any]) -> Any:
    """Connect; give the server and the namespace."""
    from cli.cluster.server import Target, open_server

    return open_server(Target(options["namespace"], options["context"], options["kubeconfig"]))


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A YAML file with the job's documents, or a folder of them; may be given again.",
)
@_connected
@click.option(
    "--dry-run", is_flag=True, help="Have the server check everything and change nothing."
)
@click.option("--force-conflicts", is_flag=True, help="Take over fields that others have set.")
@click.option("--watch", is_flag=True, help="Then follow the job, as `watch` does.")
@_EVENTS
def submit(
    files: tuple[Path, ...],
    dry_run: bool,
    force_conflicts: bool,
    watch: bool,
    output: str,
    **options: Any,
) -> None:
    """Check documents and apply them: Datasets, Models, Secrets, then jobs."""
    from cli.cluster.submit import Way, read_submission, submit

    server, namespace = _open(options)
    documents = read_submission(server, files, namespace, options["namespace"])
    if watch and len(documents.jobs) != 1:
        raise click.UsageError(f"--watch follows one job, the files hold {len(documents.jobs)}")
    for each in submit(server, documents, Way(dry_run, force_conflicts)):
        if output == "json":
            named = {"kind": each.kind, "namespace": each.namespace, "name": each.name}
            told = {"event": "applied", **named, "result": each.result, "dry_run": dry_run}
            click.echo(json.dumps(told), err=watch)
        else:
            tried = " (dry run)" if dry_run else ""
            click.echo(f"{each.kind} {each.namespace}/{each.name} {each.result}{tried}")
    for name in documents.ignored:
        click.echo(f"not applied: {name}", err=True)
    if watch and not dry_run:
        meta = documents.jobs[0].metadata
        _follow(server, meta.namespace, meta.name, output, None)


@click.command()
@click.argument("name", metavar="[NAME|@latest]", required=False)
@_connected
@click.option("-A", "--all-namespaces", is_flag=True, help="The jobs of all namespaces.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
)
def get(name: str | None, all_namespaces: bool, output: str, **options: Any) -> None:
    """List jobs, or show one with its clients."""
    from cli.cluster.listing import list_jobs, show_job

    if name is not None and all_namespaces:
        raise click.UsageError("-A lists jobs: a NAME is of one namespace")
    server, namespace = _open(options)
    if name is None:
        lines = list_jobs(server, None if all_namespaces else namespace, output)
    else:
        lines = show_job(server, namespace, name, output)
    for line in lines:
        click.echo(line)


@click.command()
@_NAME
@_connected
@_TIMEOUT
@_EVENTS
def watch(name: str, timeout: float | None, output: str, **options: Any) -> None:
    """Follow a job to its end: 0 if it completes, 1 if it fails."""
    server, namespace = _open(options)
    _follow(server, namespace, name, output, timeout)


def _follow(server: Any, namespace: str, name: str, output: str, timeout: float | None) -> None:
    from cli.cluster.watch import watch_job

    sys.exit(watch_job(server, namespace, name, output, timeout))


@click.command()
@_NAME
@_connected
@click.option("--round", "number", type=click.IntRange(min=0), help="The round [the newest].")
@click.option("--client", help="Only this client's containers.")
@click.option("--server", "only_server", is_flag=True, help="Only the cloud's containers.")
@click.option("--follow", is_flag=True, help="Go on while the round runs.")
def logs(
    name: str,
    number: int | None,
    client: str | None,
    only_server: bool,
    follow: bool,
    **options: Any,
) -> None:
    """Print the logs of a round's containers, each line with its client and step."""
    from cli.cluster.logs import Wanted, print_logs

    if client is not None and only_server:
        raise click.UsageError("--client and --server exclude one another")
    server, namespace = _open(options)
    wanted = Wanted(number, client, only_server, follow)
    sys.exit(print_logs(server, namespace, name, wanted))


def _steering(verb: str, help_text: str) -> click.Command:
    """Make one of the commands that write into a job what is wanted of it."""

    def steer(name: str, **options: Any) -> None:
        from cli.cluster import steering

        server, namespace = _open(options)
        click.echo(getattr(steering, verb)(server, namespace, name))

    return click.command(verb, help=help_text)(_NAME(_connected(steer)))


suspend = _steering("suspend", "Let no further round of a job begin.")
resume = _steering("resume", "Let a suspended job go on.")
cancel = _steering("cancel", "End a job for good; it and what it made stay.")
retry = _steering("retry", "Let a failed job go on after its last committed round.")


@click.command()
@_connected
@click.option("--system-namespace", default="fedloom-system", show_default=True)
@click.option("--no-pods", is_flag=True, help="Start no pods: the view from the edges is left out.")
@click.option(
    "--edges", type=click.IntRange(min=0), default=3, show_default=True, help="Edges to look from."
)
@_EVENTS
def doctor(system_namespace: str, no_pods: bool, edges: int, output: str, **options: Any) -> None:
    """Check that jobs can run here: API, CRDs, rights, Argo, controller, store, MLflow, edges."""
    from cli.cluster.diagnosis.finding import Scope
    from cli.cluster.doctor import examine

    server, namespace = _open(options)
    scope = Scope(namespace, system_namespace, 0 if no_pods else edges, not no_pods)
    sys.exit(examine(server, scope, output))


COMMANDS = (submit, get, watch, logs, suspend, resume, cancel, retry, doctor)
