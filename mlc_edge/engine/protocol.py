"""From an OpenAI request, which is untrusted, to the one form that the engine works with."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlc_edge.errors import EngineError

Role = Literal["system", "user", "assistant"]

MAX_STOPS = 4
MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
MAX_PROMPTS = 16
LARGEST_WHOLE = 2**53 - 1
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
COMMON = frozenset(
    "model max_tokens n stop temperature top_p top_k min_p seed presence_penalty frequency_penalty "
    "repetition_penalty logit_bias logprobs stream stream_options user ignore_eos deterministic".split()
)
CHAT = COMMON | frozenset(
    "messages max_completion_tokens top_logprobs metadata store service_tier".split()
)
TEXT = COMMON | frozenset({"prompt", "echo"})


@dataclass(frozen=True)
class ChatMessage:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How tokens are drawn, as Sampler defines; `top_k` None for no limit.

    `logprobs` counts alternatives to report, None for no log probabilities.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What is asked for, whichever endpoint it came by.

    `messages` for a chat, else `prompts` with texts or token ids; `max_tokens` None: until the context is
    full; `seed` None: an arbitrary one; `deterministic` None: as the engine is set.
    """

    messages: tuple[ChatMessage, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    max_tokens: int | None = None
    choices: int = 1
    stop: tuple[str, ...] = ()
    seed: int | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stream: bool = False
    include_usage: bool = False
    ignore_eos: bool = False
    echo: bool = False
    deterministic: bool | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What validation needs to know of the model; `defaults` are its author's sampling settings."""

    id: str
    vocab_size: int
    defaults: SamplingSettings


Params = Mapping[str, Any]


def parse_chat(params: object, model: ModelFacts) -> CompletionRequest:
    """A request of /v1/chat/completions; raises EngineError invalid_request that names the field."""
    given = _checked(params, CHAT, model)
    return CompletionRequest(
        messages=_messages(given.get("messages")),
        max_tokens=_max_tokens(given),
        sampling=_sampling(given, model, _chat_logprobs(given)),
        **_common(given),
    )


def parse_completion(params: object, model: ModelFacts) -> CompletionRequest:
    """A request of /v1/completions; raises EngineError invalid_request that names the field."""
    given = _checked(params, TEXT, model)
    logprobs = _whole(given, "logprobs", 0, MAX_COMPLETION_LOGPROBS)
    max_tokens = _whole(given, "max_tokens", 1, 2**31 - 1)
    return CompletionRequest(
        prompts=_prompts(given.get("prompt"), model),
        # OpenAI's default for this endpoint.
        max_tokens=16 if max_tokens is None else max_tokens,
        sampling=_sampling(given, model, logprobs),
        echo=bool(_flag(given, "echo")),
        **_common(given),
    )


def _checked(params: object, known: frozenset[str], model: ModelFacts) -> Params:
    given = _object(params, "body")
    for name, value in given.items():
        if name not in known and value is not None:
            raise _invalid(name, f"{name} is not supported", "Leave it out.")
    asked = given.get("model")
    if asked is not None and asked != model.id:
        raise _invalid("model", f"{_show(asked)} is not loaded, {model.id} is", "Load it first.")
    return given


def _common(given: Params) -> dict[str, Any]:
    stream = bool(_flag(given, "stream"))
    return {
        "choices": _whole(given, "n", 1, MAX_CHOICES) or 1,
        "stop": _stop(given.get("stop")),
        "seed": _whole(given, "seed", -LARGEST_WHOLE, LARGEST_WHOLE),
        "stream": stream,
        "include_usage": _include_usage(given, stream),
        "ignore_eos": bool(_flag(given, "ignore_eos")),
        "deterministic": _flag(given, "deterministic"),
    }


def _sampling(given: Params, model: ModelFacts, logprobs: int | None) -> SamplingSettings:
    def setting(name: str, low: float, high: float) -> float:
        value = _number(given, name, low=low, high=high)
        default: float = getattr(model.defaults, name)
        return default if value is None else value

    return SamplingSettings(
        temperature=setting("temperature", 0, 2),
        top_p=setting("top_p", 0, 1),
        top_k=_top_k(given),
        min_p=_number(given, "min_p", low=0, high=1) or 0,
        presence_penalty=setting("presence_penalty", -2, 2),
        frequency_penalty=setting("frequency_penalty", -2, 2),
        repetition_penalty=setting("repetition_penalty", 0.01, 10),
        logit_bias=_bias(given.get("logit_bias"), model.vocab_size),
        logprobs=logprobs,
    )


def _top_k(given: Params) -> int | None:
    """0 and -1 are common ways to say that there is no limit."""
    count = _whole(given, "top_k", -1, LARGEST_WHOLE)
    return None if count is None or count < 1 else count


def _messages(value: object) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list | tuple) or not value:
        wanted = "messages must be a list with at least one message"
        raise _invalid("messages", wanted, "Add a message.")
    return tuple(_message(entry, f"messages[{index}]") for index, entry in enumerate(value))


def _message(entry: object, at: str) -> ChatMessage:
    message = _object(entry, at)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        remedy = f"Use one of {', '.join(ROLES)}."
        raise _invalid(f"{at}.role", f"{at}.role is {_show(role)}", remedy)
    return ChatMessage(ROLES[role], _content(message.get("content"), f"{at}.content"))


def _content(value: object, at: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise _invalid(at, f"{at} must be text", "Give a string.")
    return "".join(_text_part(entry, f"{at}[{index}]") for index, entry in enumerate(value))


def _text_part(entry: object, at: str) -> str:
    part = _object(entry, at)
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise _invalid(at, f"{at} is not a text part", "Give text parts only.")
    return text


def _prompts(value: object, model: ModelFacts) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and value:
        if all(_is_whole(entry) for entry in value):
            return (_token_ids(value, "prompt", model),)
        if len(value) <= MAX_PROMPTS:
            return tuple(_prompt(entry, f"prompt[{i}]", model) for i, entry in enumerate(value))
    wanted = "prompt must be a string, a list of token ids, or a list of up to 16 of these"
    raise _invalid("prompt", wanted, "Give some text.")


def _prompt(entry: object, at: str, model: ModelFacts) -> str | tuple[int, ...]:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, list | tuple) and entry and all(_is_whole(id) for id in entry):
        return _token_ids(entry, at, model)
    raise _invalid(at, f"{at} is {_show(entry)}", "Give a string or token ids.")


def _token_ids(ids: list[Any] | tuple[Any, ...], at: str, model: ModelFacts) -> tuple[int, ...]:
    for id in ids:
        if not 0 <= id < model.vocab_size:
            wanted = f"Token ids of this model are 0 to {model.vocab_size - 1}."
            raise _invalid(at, f"{at} has the token {_show(id)}", wanted)
    return tuple(int(id) for id in ids)


def _max_tokens(given: Params) -> int | None:
    older = _whole(given, "max_tokens", 1, 2**31 - 1)
    newer = _whole(given, "max_completion_tokens", 1, 2**31 - 1)
    if older is not None and newer is not None and older != newer:
        both = "max_tokens and max_completion_tokens differ"
        raise _invalid("max_tokens", both, "Give max_completion_tokens alone.")
    return older if newer is None else newer


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if len(stops) > MAX_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        wanted = f"stop must be a non-empty string or up to {MAX_STOPS} of them"
        raise _invalid("stop", wanted, "Give fewer or other strings.")
    return tuple(stops)


def _bias(value: object, vocab_size: int) -> dict[int, float]:
    biases: dict[int, float] = {}
    if value is None:
        return biases
    for key, bias in _object(value, "logit_bias").items():
        if not re.fullmatch(r"\d{1,18}", str(key), re.ASCII) or int(key) >= vocab_size:
            wanted = f"Token ids of this model are 0 to {vocab_size - 1}."
            raise _invalid("logit_bias", f"logit_bias has the token {_show(key)}", wanted)
        if not _is_number(bias) or not -100 <= bias <= 100:
            wrong = f"logit_bias of {key} is {_show(bias)}"
            raise _invalid("logit_bias", wrong, "Use -100 to 100.")
        biases[int(key)] = bias
    return biases


def _chat_logprobs(given: Params) -> int | None:
    count = _whole(given, "top_logprobs", 0, MAX_TOP_LOGPROBS)
    if _flag(given, "logprobs"):
        return count or 0
    if count is None:
        return None
    raise _invalid("top_logprobs", "top_logprobs needs logprobs", "Set logprobs to true.")


def _include_usage(given: Params, stream: bool) -> bool:
    if given.get("stream_options") is None:
        return False
    options = _object(given["stream_options"], "stream_options")
    if not stream:
        raise _invalid("stream_options", "stream_options needs stream", "Set stream to true.")
    return bool(_flag(options, "include_usage"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0


def _number(
    given: Params, name: str, *, low: float, high: float, whole: bool = False
) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if _is_number(value) and low <= value <= high and (not whole or value == int(value)):
        number: float = value
        return number
    kind = "a whole number" if whole else "a number"
    raise _invalid(name, f"{name} is {_show(value)}", f"Use {kind} from {low} to {high}.")


def _whole(given: Params, name: str, low: int, high: int) -> int | None:
    value = _number(given, name, low=low, high=high, whole=True)
    return None if value is None else int(value)


def _flag(given: Params, name: str) -> bool | None:
    value = given.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise _invalid(name, f"{name} is {_show(value)}", "Use true or false.")


def _object(value: object, name: str) -> Params:
    if isinstance(value, Mapping):
        return value
    raise _invalid(name, f"{name} must be an object", "See OpenAI's API reference.")


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{text[:57]}..." if len(text) > 60 else text


def _invalid(param: str, message: str, remedy: str) -> EngineError:
    return EngineError("invalid_request", f"{message}.", remedy, param)
