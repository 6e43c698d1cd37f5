"""Chat templates: Jinja that makes a prompt of messages, as transformers renders it."""

import json
from collections.abc import Mapping, Sequence, Sized
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

# For checkpoints without a template: base models, which weren't trained for chat anyway.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{% endfor %}{{ 'assistant:' }}"
)
# Far beyond what padding and indents need.
MAX_OPERAND = 1 << 20
SPECIAL_NAMES = tuple(f"{name}_token" for name in "bos eos pad unk sep cls mask".split())


class ChatTemplate:
    """The template of tokenizer_config.json; `special_tokens` are texts of bos_token and the like."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises jinja2.TemplateError for what is no template."""
        self.source = _source_of(config) or PLAIN_TEMPLATE
        self.special_tokens = special_tokens(config)
        self._template = _environment().from_string(self.source)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt of an answer to messages ({role, content}); raises jinja2.TemplateError."""
        return self._template.render(
            messages=messages, add_generation_prompt=True, **self.special_tokens
        )


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Texts of bos_token and the like, which templates use."""
    names = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            names[name] = text
    return names


def _source_of(config: Mapping[str, Any]) -> str | None:
    template = config.get("chat_template")
    if not isinstance(template, list):
        return template
    named = {entry["name"]: entry["template"] for entry in template}
    return named.get("default") or next(iter(named.values()), None)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Templates come from outside: an expression of theirs must not fill the memory, either."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Multiply, or raise to a power; raises SecurityError for what would be too large."""
        if _size_of_result(operator, left, right) > MAX_OPERAND:
            raise SecurityError(f"{operator} has a result beyond what templates may make")
        return super().call_binop(context, operator, left, right)


def _size_of_result(operator: str, left: Any, right: Any) -> int:
    """In elements of sequences, or bits of integers."""
    if operator == "**":
        both = isinstance(left, int) and isinstance(right, int)
        return left.bit_length() * max(right, 0) if both else 0
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length()
    sequence, times = (left, right) if isinstance(right, int) else (right, left)
    is_repeated = isinstance(sequence, Sized) and isinstance(times, int)
    return len(sequence) * times if is_repeated else 0


def _environment() -> jinja2.Environment:
    environment = _Sandbox(
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
