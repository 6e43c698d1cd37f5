"""The `mlc-edge chat` command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.devices import DEVICE_HELP
from mlc_edge.trust import TRUST_HELP

DEFAULT = "default: the model's, else a chat's, as /help says."


def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Bundle, checkpoint folder, GGUF file or HF://owner/name; default: embedded."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Answer this once and end; '-' reads it from stdin.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help=f"0 to 2; {DEFAULT}", min=0, max=2)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help=f"Share of likely tokens; {DEFAULT}", min=0, max=1)
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help=f"Least share of the likeliest token; {DEFAULT}", min=0, max=1),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answers.")] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help=DEVICE_HELP)] = "auto",
    target: Annotated[str | None, typer.Option(help="Library; default: the device's best.")] = None,
    trust_library: Annotated[bool, typer.Option("--trust-library", help=TRUST_HELP)] = False,
) -> None:
    """Chat with a model in the terminal; /help lists the commands."""
    from edge.terminal.session import Settings, Terminal, open_engine

    settings = Settings(
        system=system,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        max_tokens=max_tokens,
        seed=seed,
    )
    asked = sys.stdin.read() if prompt == "-" else prompt
    with open_engine(model, device, target, trust_library=trust_library) as engine:
        terminal = Terminal(engine, settings)
        if asked is None:
            terminal.converse(_history_file())
        else:
            terminal.answer_once(asked)


def _history_file() -> Path:
    from platformdirs import user_state_path

    return user_state_path("mlc-edge", ensure_exists=True) / "history"
