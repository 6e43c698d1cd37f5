"""The `mlc-edge run` command: its flags are the fields of DaemonConfig."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.daemon.config import (
    DEFAULTS,
    OPTIONS,
    Source,
    flag_name,
    to_toml,
    variable_name,
)
from mlc_edge.config_file import DEFAULT_FILE


def run(**given: Any) -> None:
    """Serve a model on this device with OpenAI's HTTP API, and the chat page.

    Flags win over environment variables, they over the configuration file: TOML with the same
    names, such as max_batch = 4. SIGHUP reads it again; SIGTERM drains. In environment variables,
    repeated values are separated by spaces.
    """
    source = Source(file=given.pop("config"), given=given)
    if given.pop("check"):
        from edge.daemon.settings import Settings

        typer.echo(to_toml(Settings(source).config), nl=False)
    else:
        from edge.daemon.service import serve

        serve(source)


def _parameter(name: str) -> inspect.Parameter:
    option, default = OPTIONS[name], DEFAULTS[name]
    more: dict[str, Any] = {
        "help": option.help,
        "envvar": variable_name(name),
        "rich_help_panel": option.panel,
        "metavar": option.kind.metavar,
    }
    if name == "model":
        more |= {"metavar": "[MODEL]", "show_default": "embedded model"}
        info = typer.Argument(**{k: v for k, v in more.items() if k != "rich_help_panel"})
    else:
        flag = flag_name(name)
        flag += f"/--no-{flag[2:]}" if option.negatable else ""
        shown = option.default_text or ("on" if default is True else str(default))
        info = typer.Option(flag, **more, show_default=shown)
    annotation = Annotated[option.kind.flag_type | None, info]  # type: ignore[name-defined]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _own_parameters() -> list[inspect.Parameter]:
    file = typer.Option(
        envvar=variable_name("config"),
        help="Configuration file.",
        show_default=f"{DEFAULT_FILE} if it exists",
    )
    checking = typer.Option(
        "--check", help="Print the configuration that would be used as TOML, and exit."
    )
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("config", keyword, default=None, annotation=Annotated[Path | None, file]),
        inspect.Parameter("check", keyword, default=False, annotation=Annotated[bool, checking]),
    ]


run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [_parameter("model"), *_own_parameters(), *(_parameter(n) for n in OPTIONS if n != "model")]
)
