"""The daemon's configuration: flags over environment over file over defaults, checked once."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from edge.daemon.options import (
    DEVICE,
    FLAG,
    HOSTS,
    KEYS,
    NAMES,
    ORIGINS,
    PATH,
    SIZE,
    TEXT,
    Option,
    choice,
    option,
    seconds,
    whole,
)
from mlc_edge.config_file import find_config_file, read_config_file
from mlc_edge.devices import DEVICE_HELP
from mlc_edge.errors import ConfigError
from mlc_edge.trust import TRUST_HELP

LISTEN, ACCESS, ENGINE, LIMITS, LOGS = "Listening", "Access", "Engine", "Limits", "Logs"
BY_BOARD = "by the board"


@dataclass(frozen=True, kw_only=True)
class DaemonConfig:
    """All options. Sizes are in bytes, durations in seconds; None leaves a choice to the engine."""

    model: str | None = field(
        default=None,
        metadata=option(
            TEXT,
            "Bundle or checkpoint folder, GGUF file, or HF://owner/name; the embedded model if left out.",
            panel=ENGINE,
        ),
    )
    host: str = field(
        default="127.0.0.1", metadata=option(TEXT, "Address to listen on.", panel=LISTEN)
    )
    port: int = field(
        default=8000,
        metadata=option(whole(0, 65535), "Port to listen on; 0 takes a free one.", panel=LISTEN),
    )
    page: bool = field(
        default=True,
        metadata=option(FLAG, "Serve the chat page, too.", panel=LISTEN, negatable=True),
    )
    api_key_file: Path | None = field(
        default=None,
        metadata=option(
            PATH,
            "File of API keys, one a line, # for comments. Without it nobody needs a key.",
            panel=ACCESS,
            live=True,
            default_text="none",
        ),
    )
    cors_origin: tuple[str, ...] = field(
        default=(),
        metadata=option(
            ORIGINS,
            "Origin of another site whose pages may use the API, such as https://example.com; "
            "* for all. May be repeated.",
            panel=ACCESS,
            live=True,
            default_text="none",
        ),
    )
    allow_host: tuple[str, ...] = field(
        default=(),
        metadata=option(
            HOSTS,
            "Further host name under which requests may come, for a proxy in front. May be "
            "repeated. Others are refused: no site can reach the daemon by a DNS name of its own.",
            panel=ACCESS,
            live=True,
            default_text="this machine's; without loopback, this network's; with keys, all",
        ),
    )
    trusted_key: tuple[str, ...] = field(
        default=(),
        metadata=option(
            KEYS,
            "Public key whose signature a bundle needs to be served; checkpoints on this machine need none. "
            "May be repeated.",
            panel=ACCESS,
            default_text="none: bundles need no signature",
        ),
    )
    trust_library: bool = field(
        default=False, metadata=option(FLAG, TRUST_HELP, panel=ACCESS, negatable=True)
    )
    mode: Literal["local", "interactive", "server"] = field(
        default="local",
        metadata=option(
            choice("local", "interactive", "server"),
            "local: a few users; interactive: one at a time; server: as many as fit in memory.",
            panel=ENGINE,
        ),
    )
    device: str = field(
        default="auto",
        metadata=option(DEVICE, DEVICE_HELP, panel=ENGINE),
    )
    target: str | None = field(
        default=None,
        metadata=option(
            TEXT, "Library of the bundle.", panel=ENGINE, default_text="best for the device"
        ),
    )
    served_model_name: tuple[str, ...] = field(
        default=(),
        metadata=option(
            NAMES,
            "Name under which requests may ask for the model; answers have the first one. May be "
            "repeated.",
            panel=ENGINE,
            default_text="the model's id",
        ),
    )
    deterministic: bool = field(
        default=False,
        metadata=option(
            FLAG,
            "The same request and seed give the same bits, whatever is cached or being answered; "
            "shared prompts cost more. Requests may say otherwise.",
            panel=ENGINE,
            negatable=True,
            default_text="off",
        ),
    )
    context_policy: Literal["error", "truncate-oldest"] = field(
        default="error",
        metadata=option(
            choice("error", "truncate-oldest"),
            "What to do with a conversation that no longer fits: refuse it, or drop its oldest turns.",
            panel=ENGINE,
        ),
    )
    prefill_threads: int | None = field(
        default=None,
        metadata=option(
            whole(1, 1024), "Threads that read prompts.", panel=ENGINE, default_text=BY_BOARD
        ),
    )
    decode_threads: int | None = field(
        default=None,
        metadata=option(
            whole(1, 1024), "Threads that write answers.", panel=ENGINE, default_text=BY_BOARD
        ),
    )
    max_batch: int | None = field(
        default=None,
        metadata=option(
            whole(1, 4096),
            "Sequences computed at the same time; a request has `n` of them.",
            panel=LIMITS,
            default_text="by the mode",
        ),
    )
    max_queue: int | None = field(
        default=None,
        metadata=option(
            whole(0, 1_000_000),
            "Requests that may wait; further ones get 429, those of clients that have none at twice as many.",
            panel=LIMITS,
            default_text="by the engine",
        ),
    )
    memory_limit: int | None = field(
        default=None,
        metadata=option(
            SIZE,
            "Memory for weights and cache together, such as 2G.",
            panel=LIMITS,
            default_text="by what is free",
        ),
    )
    max_body: int = field(
        default=1 << 20,
        metadata=option(SIZE, "Largest request body.", panel=LIMITS, live=True, default_text="1M"),
    )
    drain_timeout: float = field(
        default=30.0,
        metadata=option(
            seconds(0, 86400),
            "How long running requests may go on after SIGTERM.",
            panel=LIMITS,
            live=True,
            default_text="30",
        ),
    )
    log_format: Literal["auto", "text", "journal", "json"] = field(
        default="auto",
        metadata=option(
            choice("auto", "text", "journal", "json"),
            "auto: for journald if stderr goes there, else text.",
            panel=LOGS,
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info",
        metadata=option(
            choice("debug", "info", "warning", "error"),
            "Least severe message to log; debug logs /health and /metrics, too.",
            panel=LOGS,
            live=True,
        ),
    )


OPTIONS: dict[str, Option] = {
    entry.name: entry.metadata["option"] for entry in fields(DaemonConfig)
}
DEFAULTS: dict[str, Any] = {entry.name: entry.default for entry in fields(DaemonConfig)}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the configuration comes from: `given` by flags or environment, then a file."""

    given: Mapping[str, Any]
    file: Path | None = None

    def load(self) -> DaemonConfig:
        """Read the file again and check everything; raises ConfigError with all problems."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        file = self.file or find_config_file()
        if file is not None:
            values |= _checked(read_config_file(file), lambda name: f"{file}: {name}", problems)
        given = {name: value for name, value in self.given.items() if value is not None}
        values |= _checked(
            given, lambda name: f"{flag_name(name)} ({variable_name(name)})", problems
        )
        if problems:
            raise ConfigError(f"{'; '.join(problems)}. See `mlc-edge run --help`.")
        return DaemonConfig(**values)


def flag_name(name: str) -> str:
    """An option as people write it on the command line."""
    return "MODEL" if name == "model" else f"--{name.replace('_', '-')}"


def variable_name(name: str) -> str:
    """The environment variable of an option."""
    return f"MLC_EDGE_{name.upper()}"


def _checked(
    values: Mapping[str, Any], label: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    good: dict[str, Any] = {}
    for name, value in values.items():
        if name not in OPTIONS:
            problems.append(f"{label(name)} is no option, expected one of {', '.join(OPTIONS)}")
            continue
        try:
            good[name] = OPTIONS[name].kind.parse(value)
        except ValueError as error:
            problems.append(f"{label(name)} is {value!r}, {error}")
    return good


def changes(old: DaemonConfig, new: DaemonConfig) -> tuple[dict[str, Any], list[str]]:
    """New values of live options, and the names of others that changed."""
    changed = {
        name: getattr(new, name) for name in OPTIONS if getattr(old, name) != getattr(new, name)
    }
    live = {name: value for name, value in changed.items() if OPTIONS[name].live}
    return live, [name for name in changed if name not in live]


def to_toml(config: DaemonConfig) -> str:
    """The configuration as a file that gives the same; options without a value are comments."""
    return "".join(f"{_toml_line(name, getattr(config, name))}\n" for name in OPTIONS)


def _toml_line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} = {OPTIONS[name].default_text or 'none'}"
    if isinstance(value, tuple):
        return f"{name} = {json.dumps(list(value))}"
    if isinstance(value, bool | int | float):
        return f"{name} = {json.dumps(value)}"
    return f"{name} = {json.dumps(str(value))}"
