"""From messages to the token ids that a model reads."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from mlc_edge.engine.protocol import ChatMessage
from mlc_edge.errors import EngineError

ContextPolicy = Literal["error", "truncate-oldest"]
# For checkpoints without a template: base models, which weren't trained for chat anyway.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{% endfor %}{{ 'assistant:' }}"
)
SPECIAL_NAMES = tuple(f"{name}_token" for name in "bos eos pad unk sep cls mask".split())


@dataclass(frozen=True)
class ContextLimits:
    """How long prompts may be, in tokens; `reserve` is kept for answers by "truncate-oldest"."""

    window: int
    policy: ContextPolicy
    reserve: int


class Conversation:
    """A model's tokenizer and chat template."""

    def __init__(self, tokenizer_json: str, config: dict[str, Any]) -> None:
        """`tokenizer_json` and `config`: contents of tokenizer.json and tokenizer_config.json."""
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._rendered = chat_renderer(config)

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without any that mark its begin or end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def tokens(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The prompt of an answer to `messages`; the template alone says which special tokens it has."""
        return self.encode(self._render(messages))

    def fit(self, messages: Sequence[ChatMessage], limits: ContextLimits) -> list[int]:
        """The prompt, shortened by its oldest turns if the policy allows and it needs to be.

        Raises EngineError context_length_exceeded if no way leaves room for an answer.
        """
        whole = ids = self.tokens(messages)
        window = limits.window
        wanted = 1 if limits.policy == "error" else min(limits.reserve, window // 2)
        kept: Sequence[ChatMessage] | None = messages
        while len(ids) + wanted > window and limits.policy != "error":
            kept = _without_oldest(kept or ())
            if kept is None:
                break
            ids = self.tokens(kept)
        check_length(len(ids), window, len(whole), "messages")
        return ids

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        try:
            return self._rendered(
                [{"role": message.role, "content": message.content} for message in messages]
            )
        except jinja2.TemplateError as error:
            raise EngineError(
                "invalid_request",
                f"The model's chat template refuses these messages: {error}",
                "Let user and assistant take turns, and begin with the user.",
                "messages",
            ) from error


def check_length(length: int, window: int, whole: int, param: str) -> None:
    """Raise EngineError unless a prompt of `length` leaves room for one token."""
    if length < window:
        return
    raise EngineError(
        "context_length_exceeded",
        f"The conversation has {whole} tokens, but this model reads at most {window - 1}.",
        "Start a new conversation or shorten the message.",
        param,
    )


def _without_oldest(messages: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """Drop the oldest question with what followed it; None if only the last one is left."""
    roles = [message.role for message in messages]
    start = next((i for i, role in enumerate(roles) if role != "system"), None)
    if start is None or "user" not in roles[start + 1 :]:
        return None
    following = roles.index("user", start + 1)
    return [*messages[:start], *messages[following:]]


def chat_renderer(config: dict[str, Any]) -> Callable[[Sequence[Mapping[str, Any]]], str]:
    """What makes messages ({role, content}) a prompt, by tokenizer_config.json's chat template."""
    template = _environment().from_string(_template_of(config) or PLAIN_TEMPLATE)
    names = special_tokens(config)
    return lambda messages: template.render(messages=messages, add_generation_prompt=True, **names)


def _environment() -> jinja2.Environment:
    """As transformers renders chat templates; they come from outside, hence the sandbox."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _template_of(config: dict[str, Any]) -> str | None:
    template = config.get("chat_template")
    if not isinstance(template, list):
        return template
    named = {entry["name"]: entry["template"] for entry in template}
    return named.get("default") or next(iter(named.values()), None)


def special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Texts of bos_token and the like, which templates use."""
    names = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            names[name] = text
    return names
