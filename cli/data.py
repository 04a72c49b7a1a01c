"""`fedloom data`: makes and checks the data of the examples."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make example data, or check data before a job reads it."""


@data.command()
@click.option("--make", "target", type=click.Path(path_type=Path), help="Make a set below DIR.")
@click.option("--check", "source", type=click.Path(path_type=Path), help="Read every file in DIR.")
@click.option("--images", type=int, default=128, show_default=True, help="To train on, per edge.")
@click.option("--held-out", type=int, default=128, show_default=True, help="To evaluate on.")
@click.option("--classes", type=int, default=3, show_default=True, help="How many shapes.")
@click.option("--size", type=int, default=96, show_default=True, help="Side in pixels.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--edges", type=int, default=0, show_default=True, help="A set for each; 0: one set.")
@click.option(
    "--family",
    type=click.Choice(["private", "public"]),
    default="private",
    show_default=True,
    help="Shapes of the clients, or those for pretraining.",
)
def coco128(target: Path | None, source: Path | None, **order: int | str) -> None:
    """Pictures with boxes in COCO128's format: --make a set of painted shapes, or --check a set.

    The same options make the same files. --check decodes every picture and reads every label, says
    how many there are, names what cannot be used, and exits with 1 if there is such a thing.
    """
    from fedloom.data.folder import read_folder
    from fedloom.data.generator import Order, make_sets

    if (target is None) == (source is None):
        raise click.UsageError("expected one of --make DIR and --check DIR")
    if target is not None:
        for folder in make_sets(target, Order(**order)):  # type: ignore[arg-type]  # click checked
            click.echo(f"{folder}: {read_folder(folder)}")
        return
    assert source is not None
    found = read_folder(source, decode=True)
    click.echo(f"{found.root}: {found}")
    for finding in found.findings:
        click.echo(f"left out: {finding}", err=True)
    if found.findings:
        sys.exit(1)
