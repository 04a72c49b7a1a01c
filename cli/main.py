"""`fedloom`: the commands and their options.

Exit codes: 0 done, 1 failed or invalid, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from cli.cluster.commands import COMMANDS as CLUSTER_COMMANDS
from cli.data import data
from fedloom import __version__
from fedloom.errors import FedloomError, InvalidJobError

_FILES = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A YAML file with the job's documents, or a folder of them; may be given again.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fedloom")
def commands() -> None:
    """Federated learning as a job: the same YAML runs on this machine and on Kubernetes."""


@commands.command()
@_FILES
@click.option(
    "--state", type=click.Path(path_type=Path), help="State folder [.fedloom/NAMESPACE/JOB]."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Stands for the nodes' disks; nothing leaves this machine.",
)
@click.option("--parallel", type=click.IntRange(min=1), help="Clients at once [number of cores].")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def run(files: tuple[Path, ...], **options: Any) -> None:
    """Run a job on this machine, going on where the state folder stands.

    Images are not looked at: a template says which command it runs, or FEDLOOM_IMAGES does for it.
    """
    from cli.run import Options, run_job

    sys.exit(run_job(files, Options(**options)))


@commands.command()
@_FILES
def validate(files: tuple[Path, ...]) -> None:
    """Check the documents of a job; print every problem."""
    from fedloom.api.documents import read_documents
    from fedloom.api.running_order import jobs_to_run
    from fedloom.api.size import size_problems

    documents = read_documents(files)
    for job in jobs_to_run(documents):
        click.echo(f"{job.metadata.namespace}/{job.metadata.name}: valid")
    for problem in size_problems(documents):
        click.echo(f"not for a cluster: {problem}")
    for name in documents.ignored:
        click.echo(f"not read: {name}")


@commands.command("compile")
@_FILES
@click.option(
    "--engine", type=click.Choice(["local", "argo", "kfp"]), default="local", show_default=True
)
@click.option("--round", "number", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--all-rounds", is_flag=True, help="The whole job as one pipeline (kfp only).")
def compile_(files: tuple[Path, ...], engine: str, number: int, *, all_rounds: bool) -> None:
    """Print what an engine would be given for one round."""
    from cli.compile import compile_job, compile_round

    if all_rounds and engine != "kfp":
        raise click.UsageError("--all-rounds goes with --engine kfp only")
    text = compile_job(files) if all_rounds else compile_round(files, engine, number)
    click.echo(text, nl=False)


@commands.command()
def crds() -> None:
    """Print the CustomResourceDefinitions, ready for `kubectl apply -f -`."""
    from fedloom.api.crd import crds as documents
    from fedloom.api.documents import render_crd

    click.echo("---\n".join(render_crd(document) for document in documents().values()), nl=False)


@commands.command()
@click.argument("state", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The page [STATE/report.html]."
)
def report(state: Path, output: Path | None) -> None:
    """Write one self-contained HTML page about the run in STATE."""
    from cli.report import write_report

    click.echo(write_report(state, output or state / "report.html"))


commands.add_command(data)


@commands.command("local-controller")
def local_controller() -> None:
    """Run the local controller of an edge node; its settings are FEDLOOM_LC_* variables."""
    from controller.edge.main import main as run_local_controller

    sys.exit(run_local_controller())


for _command in CLUSTER_COMMANDS:
    commands.add_command(_command)


def main() -> NoReturn:
    """Entry point; turns errors into one message and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    name = "kubectl fedloom" if Path(sys.argv[0]).stem == "kubectl-fedloom" else None
    try:
        code = commands.main(prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except InvalidJobError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(1)
    except FedloomError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: the same command goes on after the last committed round", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
