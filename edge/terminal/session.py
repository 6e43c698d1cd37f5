"""A conversation in a terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from rich.console import Console
from rich.markup import escape

from edge.hardware.device import probe, profile
from mlc_edge import EngineConfig, MLCEngine
from mlc_edge.engine.sampling_defaults import CHAT, NEUTRAL, chat_sampling
from mlc_edge.errors import EngineError
from mlc_edge.models import resolve_model
from mlc_edge.openai import Usage
from mlc_edge.trust import configured_keys
from mlc_edge.visible import visible

COMMANDS = {
    "/stats": "speed and memory",
    "/reset": "begin a new conversation",
    "/help": "this list",
    "/exit": "leave (or Ctrl-D)",
}
MIB = 1 << 20
# What shells report of a program that Ctrl-C ended.
INTERRUPTED = 130
# What builds begin lines with that must not pass by.
WARNING = "warning: "


@dataclass(frozen=True)
class Settings:
    """What the command line says; None for the model's default."""

    system: str | None
    temperature: float | None
    top_p: float | None
    min_p: float | None
    max_tokens: int | None
    seed: int | None

    def params(self, named: Mapping[str, float]) -> dict[str, Any]:
        """For `create`; `named` are the fields that the model's files name."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        set_ones = {name: value for name, value in given.items() if value is not None}
        return {**chat_sampling(named), **set_ones}


@contextmanager
def open_engine(
    model: str | None, device: str, target: str | None, *, trust_library: bool = False
) -> Iterator[MLCEngine]:
    """An engine for one conversation on `device`, with this machine's threads; progress goes to stderr."""
    threads = profile(probe())
    config = EngineConfig(
        mode="interactive",
        device=device,
        target=target,
        prefill_threads=threads.prefill_threads,
        decode_threads=threads.decode_threads,
        context_policy="truncate-oldest",
    )
    console = Console(stderr=True)
    with console.status("loading the model") as status:

        def show(step: str, share: float | None) -> None:
            if step.startswith(WARNING):
                console.print(escape(visible(step)), highlight=False, soft_wrap=True)
                return
            done = "" if share is None else f" {share:.0%}"
            status.update(escape(visible(f"{step}{done}")))

        bundle = resolve_model(
            model,
            target=config.build_target(show),
            progress=show,
            trust_library=trust_library,
            trusted_keys=configured_keys(),
        )
        engine = MLCEngine(bundle, config, progress=show, trust_library=True)
    try:
        yield engine
    finally:
        engine.close()


@dataclass
class Terminal:
    """Reads questions, prints answers as they are written."""

    engine: MLCEngine
    settings: Settings
    turns: list[dict[str, str]] = field(default_factory=list)
    usage: Usage | None = None

    def __post_init__(self) -> None:
        self._console = Console(highlight=False)
        self._reset()

    def answer_once(self, question: str) -> None:
        """Print the answer alone, for scripts; Ctrl-C ends the program."""
        if not CHAT.keys() & self.engine.sampling.keys():
            Console(stderr=True, highlight=False).print(self._sampling())
        if not self._answer(question):
            raise SystemExit(INTERRUPTED)

    def converse(self, history: Path) -> None:
        """Ask and answer until /exit or the end of the input."""
        model, target = self.engine.model, self.engine.stats().target
        self._console.print(
            f"[bold]{escape(model.id)}[/bold] on {escape(target)}, "
            f"{model.context_window_size} tokens of context. [dim]/help lists the commands.[/dim]"
        )
        self._console.print(self._sampling())
        session: PromptSession[str] = PromptSession(history=FileHistory(str(history)))
        while True:
            try:
                line = session.prompt("> ").strip()
                if line == "/exit":
                    return
                self._obey(line)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def _obey(self, line: str) -> None:
        if line == "/reset":
            self._reset()
            self._console.print("[dim]A new conversation.[/dim]")
        elif line == "/stats":
            self._print_stats()
        elif line.startswith("/") and line.split()[0] not in COMMANDS and " " in line:
            self._try_to_answer(line)
        elif line.startswith("/"):
            for name, meaning in COMMANDS.items():
                self._console.print(f"  [bold]{name:8}[/bold]{meaning}")
            self._console.print(self._sampling())
        elif line:
            self._try_to_answer(line)

    def _reset(self) -> None:
        system = self.settings.system
        self.turns = [{"role": "system", "content": system}] if system else []

    def _try_to_answer(self, question: str) -> None:
        try:
            if not self._answer(question):
                self._console.print("[dim](stopped)[/dim]")
        except EngineError as error:
            self._console.print(f"[red]error:[/red] {escape(visible(str(error)))}")

    def _answer(self, question: str) -> bool:
        """Stream an answer; False if Ctrl-C ended it. What was said stays in the conversation."""
        turns = [*self.turns, {"role": "user", "content": question}]
        stream = self.engine.chat.completions.create(
            messages=turns,
            stream=True,
            stream_options={"include_usage": True},
            **self.settings.params(self.engine.sampling),
        )
        said = []
        is_whole = True
        try:
            for chunk in stream:
                self.usage = chunk.usage or self.usage
                for choice in chunk.choices:
                    said.append(choice.delta.content or "")
                    sys.stdout.write(visible(said[-1]))
                    sys.stdout.flush()
        except KeyboardInterrupt:
            stream.close()
            is_whole = False
        print(flush=True)
        self.turns = [*turns, {"role": "assistant", "content": "".join(said)}]
        return is_whole

    def _sampling(self) -> str:
        """What is drawn by, and who said so."""
        named = self.engine.sampling
        source = (
            "by the model's files"
            if CHAT.keys() & named.keys()
            else "for chats: its files name none"
        )
        values = {**NEUTRAL, **named, **self.settings.params(named)}
        given = [field for field in CHAT if getattr(self.settings, field) is not None]
        parts = ([field for field in CHAT if field not in given], source), (given, "asked")
        said = [
            ", ".join(f"{field.replace('_', '-')} {values[field]:g}" for field in fields)
            + f" ({source})"
            for fields, source in parts
            if fields
        ]
        return f"[dim]{'; '.join(said)}[/dim]"

    def _print_stats(self) -> None:
        stats = self.engine.stats()
        lines = [
            f"cache      {stats.kv_tokens_used} of {stats.kv_tokens_total} tokens, "
            f"{stats.kv_cache_bytes / MIB:.0f} MiB",
            f"weights    {stats.parameter_bytes / MIB:.0f} MiB",
            f"threads    {stats.threads.prefill} to read, {stats.threads.decode} to write",
        ]
        if self.usage:
            extra = self.usage.extra
            lines += [
                f"last turn  {self.usage.prompt_tokens} tokens read "
                f"({extra.cached_tokens} from the cache), {self.usage.completion_tokens} written",
                f"speed      {_speed(extra.prefill_tokens_per_s)} reading, "
                f"{_speed(extra.decode_tokens_per_s)} writing",
            ]
        for line in lines:
            self._console.print(f"  {line}")


def _speed(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:.1f} tokens/s"
