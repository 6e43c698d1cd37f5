"""The `mlc-edge cache` command: what was compiled here, and how to get rid of it."""

import time
from typing import Annotated

import typer

from mlc_edge.compiled import Compiled, list_compiled, remove_compiled, remove_leftovers
from mlc_edge.places import bundles_folder

DAY_S = 86400
MIB = 1 << 20

cache = typer.Typer(add_completion=False, help="List or remove models that were compiled here.")


@cache.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """List the compiled models; `clean` removes them."""
    if context.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Table

    entries = list_compiled()
    total = sum(entry.bytes for entry in entries)
    table = Table("model", "target", "MiB", "last used", "for this version")
    table.columns[2].justify = "right"
    for entry in reversed(entries):
        table.add_row(*_row(entry))
    Console().print(table)
    typer.echo(f"{total / MIB:,.1f} MiB in {bundles_folder()}")


@cache.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are of use.")] = False,
    older_than: Annotated[
        int | None,
        typer.Option(metavar="DAYS", help="Also those that nobody used for so many days.", min=0),
    ] = None,
) -> None:
    """Remove compiled models that this version can't use; what a process uses or compiles stays."""
    remove_leftovers()
    freed = kept = 0
    for entry in list_compiled():
        idle_days = (time.time() - entry.used) / DAY_S
        is_old = older_than is not None and idle_days >= older_than
        if entry.usable and not (everything or is_old):
            continue
        if remove_compiled(entry):
            freed += entry.bytes
            typer.echo(f"removed {_name(entry)} ({entry.bytes / MIB:,.1f} MiB)")
        else:
            kept += 1
            typer.echo(f"kept {_name(entry)}: a process uses or compiles it", err=True)
    typer.echo(f"freed {freed / MIB:,.1f} MiB" + (f", {kept} in use" if kept else ""))


def _row(entry: Compiled) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    target = entry.note.target if entry.note else "unknown"
    usable = "yes" if entry.usable else "no"
    return _name(entry), target, f"{entry.bytes / MIB:,.1f}", used, usable


def _name(entry: Compiled) -> str:
    return entry.note.name if entry.note else entry.folder.name
