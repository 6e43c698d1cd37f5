"""OpenAI's answers as typed objects; `to_dict` gives the JSON that goes over HTTP, `from_dict` takes it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

FinishReason = Literal["stop", "length", "abort"]
Answer = TypeVar("Answer", bound="_Answer")


class _Answer:
    """Something with a JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """The object as OpenAI writes it."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[Answer], content: Mapping[str, Any]) -> Answer:
        """The object of what `to_dict` or a server gave: fields left out are None, unknown ones go."""
        read: Answer = _read(cls, content)
        return read


def _read(kind: Any, value: Any) -> Any:
    """A JSON value as the type that a field's annotation names."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is tuple and value is not None:
        return tuple(_read(get_args(kind)[0], item) for item in value)
    if not is_dataclass(kind) or value is None:
        return value
    hints = get_type_hints(kind)
    given = {f.name: _read(hints[f.name], value.get(f.name)) for f in fields(kind) if f.init}
    return kind(**given)  # type: ignore[operator]


@dataclass(frozen=True)
class TokenLogprob:
    """A token, its natural log probability and its UTF-8; a character may span several tokens."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None


@dataclass(frozen=True)
class ContentLogprob(TokenLogprob):
    """A token of the answer, with the most probable ones in its place."""

    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Logprobs:
    """Log probabilities of a chat answer's tokens."""

    content: tuple[ContentLogprob, ...]
    refusal: None = None


@dataclass(frozen=True)
class PromptTokensDetails:
    """Of the prompt's tokens, how many were in the cache."""

    cached_tokens: int


@dataclass(frozen=True)
class UsageExtra:
    """Speed of a request; None where there was nothing to measure, such as no second token."""

    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    time_to_first_token_s: float | None
    cached_tokens: int
    e2e_latency_s: float


@dataclass(frozen=True)
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    extra: UsageExtra


@dataclass(frozen=True)
class Message:
    """An answer in a chat."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


@dataclass(frozen=True)
class Choice:
    """One answer of a chat completion."""

    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: FinishReason


@dataclass(frozen=True)
class ChatCompletion(_Answer):
    """The answer of /v1/chat/completions; `created` in seconds since the epoch."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"


@dataclass(frozen=True)
class Delta:
    """What a chunk adds; None for what it doesn't."""

    role: Literal["assistant"] | None = None
    content: str | None = None


@dataclass(frozen=True)
class ChunkChoice:
    """A part of one answer."""

    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class _Chunk(_Answer):
    """`usage` is on the last chunk, without choices; others have none if it wasn't asked for."""

    id: str
    created: int
    model: str
    usage: Usage | None = field(default=None, kw_only=True)
    with_usage: bool = field(default=False, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        content = super().to_dict()
        if not content.pop("with_usage"):
            del content["usage"]
        return content

    @classmethod
    def from_dict(cls: type[Answer], content: Mapping[str, Any]) -> Answer:
        read: Answer = _read(cls, {**content, "with_usage": "usage" in content})
        return read


@dataclass(frozen=True)
class ChatCompletionChunk(_Chunk):
    """A part of a streamed chat completion."""

    choices: tuple[ChunkChoice, ...] = ()
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"

    def to_dict(self) -> dict[str, Any]:
        content = super().to_dict()
        for choice in content["choices"]:
            given = choice["delta"].items()
            choice["delta"] = {name: value for name, value in given if value is not None}
        return content


@dataclass(frozen=True)
class TextLogprobs:
    """Log probabilities of a plain completion: one entry a token, offsets in characters.

    A prompt's first token has none. Tokens that are a part of a character are written `bytes:\\xe2\\x82`.
    """

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...]
    text_offset: tuple[int, ...]


@dataclass(frozen=True)
class TextChoice:
    """One answer, or a part of it, of a plain completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completion(_Answer):
    """The answer of /v1/completions."""

    id: str
    created: int
    model: str
    choices: tuple[TextChoice, ...]
    usage: Usage
    object: Literal["text_completion"] = "text_completion"


@dataclass(frozen=True)
class CompletionChunk(_Chunk):
    """A part of a streamed plain completion."""

    choices: tuple[TextChoice, ...] = ()
    object: Literal["text_completion"] = "text_completion"
