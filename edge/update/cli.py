"""The `mlc-edge update` command: another model, or the one before, without a moment of none."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.errors import ConfigError

HOME = "/var/lib/mlc-edge"


def update(
    bundle: Annotated[
        Path | None, typer.Argument(help="Folder of the new bundle.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Where bundles are kept; the daemon serves DIR/current.",
            show_default=f"$MLC_EDGE_HOME/models, else {HOME}/models",
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the model before.")
    ] = False,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Leave the daemon that systemd runs as it is.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print each step before it is done.")
    ] = False,
) -> None:
    """Switch this device to another model, and back by itself if that one fails.

    The bundle is copied, verified, and must answer before DIR/current names it. A power cut at any
    moment leaves a model that works; run the command again then. The model before is kept.
    """
    from edge.update.releases import open_releases
    from edge.update.switch import go_back, switch_to
    from edge.update.unit import Unit
    from mlc_edge.signing import parse_public_keys
    from mlc_edge.trust import configured_keys

    if rollback == (bundle is not None):
        raise ConfigError("give a BUNDLE or --rollback, one of them.")
    keys = parse_public_keys(configured_keys())
    folder = (folder or Path(os.environ.get("MLC_EDGE_HOME") or HOME) / "models").absolute()
    announce = _print_step if verbose else _say_nothing
    # What isn't verified yet is nobody else's to read or to write, whatever the caller's says.
    os.umask(0o077)
    unit = None if no_restart else Unit()
    with open_releases(folder, announce) as releases:
        if bundle is None:
            name = go_back(releases, keys=keys, unit=unit, announce=announce)
        else:
            name = switch_to(releases, bundle, keys=keys, unit=unit, announce=announce)
    typer.echo(f"{folder / 'current'} is {name} now")


def _print_step(step: str) -> None:
    print(step, flush=True)


def _say_nothing(step: str) -> None:
    pass
