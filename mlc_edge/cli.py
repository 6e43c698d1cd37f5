"""The `mlc-edge` command: finds the sub-command, loads only its module, reports errors."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from mlc_edge.errors import MlcEdgeError
from mlc_edge.version import __version__
from mlc_edge.visible import visible

COMMANDS = {
    "build": "webbuild.cli",
    "compare": "webbuild.cli_compare",
    "web": "web.cli",
    "site": "web.site.cli",
    "run": "edge.daemon.cli",
    "chat": "edge.terminal.cli",
    "doctor": "edge.doctor.cli",
    "update": "edge.update.cli",
    "bench": "edge.bench.cli",
    "cache": "mlc_edge.cli_cache",
    "key": "mlc_edge.cli_key",
}


class LazyGroup(TyperGroup):
    """Imports a sub-command's module only when that command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command = getattr(module, cmd_name)
        if isinstance(command, typer.Typer):
            group = typer.main.get_group(command)
            group.name = cmd_name
            return group
        command_app = typer.Typer(add_completion=False)
        command_app.command(name=cmd_name)(command)
        return typer.main.get_command(command_app)


app = typer.Typer(
    cls=LazyGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlc-edge {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Compile a language model once; run it in a browser, on a Raspberry Pi, on a Jetson."""


def main() -> None:
    """Run the command line; exit code 2 for bad input, with one clear error on stderr."""
    try:
        app(prog_name="mlc-edge")
    except MlcEdgeError as error:
        typer.echo(f"error: {visible(str(error))}", err=True)
        sys.exit(2)
