"""The `mlc-edge doctor` command: what this device is, what runs on it, how fast."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a bundle or checkpoint: say whether it runs here.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this device is, which models fit, and what speed to expect.

    The exit code is 1 if MODEL can't run here, or if no library could.
    """
    from edge.doctor.diagnosis import diagnose
    from edge.doctor.report import print_report

    with _status("measuring the memory", quiet=as_json):
        diagnosis = diagnose(model)
    if as_json:
        typer.echo(json.dumps(_to_json(asdict(diagnosis)), indent=1))
    else:
        print_report(diagnosis)
    if not diagnosis.usable:
        raise typer.Exit(1)


def _status(text: str, *, quiet: bool) -> Any:
    from rich.console import Console

    return Console(stderr=True, quiet=quiet).status(text)


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_json(entry) for name, entry in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return list(map(_to_json, value)) if isinstance(value, list | tuple) else value
