"""From an OpenAI request, which is untrusted, to the one form that the engine works with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlc_edge.engine import fields
from mlc_edge.engine.fields import LARGEST_WHOLE, Params, invalid, show

Role = Literal["system", "user", "assistant"]

MAX_STOPS, MAX_STOP_CHARACTERS = 4, 1000
MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
MAX_PROMPTS = 16
MAX_TOKENS = 2**31 - 1
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
COMMON = frozenset(
    "model max_tokens n stop temperature top_p top_k min_p seed presence_penalty frequency_penalty "
    "repetition_penalty logit_bias logprobs stream stream_options ignore_eos deterministic".split()
)
CHAT = COMMON | frozenset(
    {"messages", "max_completion_tokens", "top_logprobs", "continue_final_message"}
)
TEXT = COMMON | frozenset({"prompt", "echo", "best_of"})
# What OpenAI's clients say of themselves, their users, bills and caches: no answer depends on it.
HINTS = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options "
    "prompt_cache_retention parallel_tool_calls".split()
)
# Fields that aren't supported, with values that ask for nothing.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "suffix": ("",),
    "best_of": (1,),
}
MESSAGE = frozenset({"role", "content", "name"})
# What OpenAI's client writes into an answer's message, which comes back with the next question.
NEUTRAL_IN_MESSAGE: dict[str, tuple[object, ...]] = {"annotations": ([],), "tool_calls": ([],)}
TEXT_PART = frozenset({"type", "text", "prompt_cache_breakpoint"})
STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})


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

    `messages` for a chat, else `prompts` with texts or token ids; `begun` is the answer so far, which goes
    on; `max_tokens` None: until the context is full; `seed` None: an arbitrary one; `deterministic` None:
    as the engine is set.
    """

    messages: tuple[ChatMessage, ...] = ()
    begun: str = ""
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
    """What validation needs to know of the model: what requests may call it, and its author's settings."""

    names: tuple[str, ...]
    vocab_size: int
    defaults: SamplingSettings


def parse_chat(params: object, model: ModelFacts) -> CompletionRequest:
    """A request of /v1/chat/completions; raises EngineError invalid_request that names the field."""
    given = _checked(params, CHAT, model)
    messages, begun = _conversation(given)
    return CompletionRequest(
        messages=messages,
        begun=begun,
        max_tokens=_max_tokens(given),
        sampling=_sampling(given, model, _chat_logprobs(given)),
        **_common(given),
    )


def parse_completion(params: object, model: ModelFacts) -> CompletionRequest:
    """A request of /v1/completions; raises EngineError invalid_request that names the field."""
    given = _checked(params, TEXT, model)
    logprobs = fields.whole(given, "logprobs", 0, MAX_COMPLETION_LOGPROBS)
    echo = bool(fields.flag(given, "echo"))
    # The prompt alone, with its log probabilities, is something to ask for.
    max_tokens = fields.whole(given, "max_tokens", 0 if echo else 1, MAX_TOKENS)
    common = _common(given)
    if fields.whole(given, "best_of", 1, MAX_CHOICES) not in (None, common["choices"]):
        raise invalid("best_of", "best_of and n differ", "Leave best_of out.")
    return CompletionRequest(
        prompts=_prompts(given.get("prompt"), model),
        # OpenAI's default for this endpoint.
        max_tokens=16 if max_tokens is None else max_tokens,
        sampling=_sampling(given, model, logprobs),
        echo=echo,
        **common,
    )


def _checked(params: object, known: frozenset[str], model: ModelFacts) -> Params:
    given = fields.an_object(params, "body")
    _refuse_unknown(given, known | HINTS, NEUTRAL, at="")
    asked = given.get("model")
    if asked is not None and asked not in model.names:
        loaded = " or ".join(model.names)
        raise invalid("model", f"{show(asked)} is not loaded, {loaded} is", "Load it first.")
    return given


def _refuse_unknown(
    given: Params,
    known: frozenset[str],
    neutral: Mapping[str, tuple[object, ...]],
    *,
    at: str,
) -> None:
    """Raise EngineError for a field that would change the answer if it were supported."""
    for name, value in given.items():
        if name in known or value is None:
            continue
        asks_nothing = list(value) if isinstance(value, tuple) else value
        if asks_nothing not in neutral.get(name, ()):
            shown = fields.safe(f"{at}{name}")
            raise invalid(shown, f"{shown} is not supported", "Leave it out.")


def _common(given: Params) -> dict[str, Any]:
    stream = bool(fields.flag(given, "stream"))
    return {
        "choices": fields.whole(given, "n", 1, MAX_CHOICES) or 1,
        "stop": _stop(given.get("stop")),
        "seed": fields.whole(given, "seed", -LARGEST_WHOLE, LARGEST_WHOLE),
        "stream": stream,
        "include_usage": _include_usage(given, stream),
        "ignore_eos": bool(fields.flag(given, "ignore_eos")),
        "deterministic": fields.flag(given, "deterministic"),
    }


def _sampling(given: Params, model: ModelFacts, logprobs: int | None) -> SamplingSettings:
    def setting(name: str, low: float, high: float) -> float:
        value = fields.number(given, name, low=low, high=high)
        default: float = getattr(model.defaults, name)
        return default if value is None else value

    return SamplingSettings(
        temperature=setting("temperature", 0, 2),
        top_p=setting("top_p", 0, 1),
        top_k=_top_k(given, model.defaults.top_k),
        min_p=setting("min_p", 0, 1),
        presence_penalty=setting("presence_penalty", -2, 2),
        frequency_penalty=setting("frequency_penalty", -2, 2),
        repetition_penalty=setting("repetition_penalty", 0.01, 10),
        logit_bias=_bias(given.get("logit_bias"), model.vocab_size),
        logprobs=logprobs,
    )


def _top_k(given: Params, default: int | None) -> int | None:
    """0 and -1 are common ways to say that there is no limit."""
    count = fields.whole(given, "top_k", -1, LARGEST_WHOLE)
    if count is None:
        return default
    return count if count > 0 else None


def _conversation(given: Params) -> tuple[tuple[ChatMessage, ...], str]:
    """The messages, and what there is of the answer to them."""
    messages = _messages(given.get("messages"))
    if not fields.flag(given, "continue_final_message"):
        return messages, ""
    *asked, last = messages
    if not asked or last.role != "assistant":
        wanted = "continue_final_message needs an assistant's message at the end, and one before it"
        raise invalid(
            "continue_final_message", wanted, "Add the answer so far as the last message."
        )
    return tuple(asked), last.content


def _messages(value: object) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list | tuple) or not value:
        wanted = "messages must be a list with at least one message"
        raise invalid("messages", wanted, "Add a message.")
    return tuple(_message(entry, f"messages[{index}]") for index, entry in enumerate(value))


def _message(entry: object, at: str) -> ChatMessage:
    message = fields.an_object(entry, at)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        remedy = f"Use one of {', '.join(ROLES)}."
        raise invalid(f"{at}.role", f"{at}.role is {show(role)}", remedy)
    _refuse_unknown(message, MESSAGE, NEUTRAL_IN_MESSAGE, at=f"{at}.")
    if message.get("name") is not None:
        fields.text(message["name"], f"{at}.name")
    return ChatMessage(ROLES[role], _content(message.get("content"), f"{at}.content"))


def _content(value: object, at: str) -> str:
    if value is None:
        raise invalid(at, f"{at} is missing", "Give a string: tool calls aren't supported.")
    if not isinstance(value, list | tuple):
        return fields.text(value, at)
    return "".join(_text_part(entry, f"{at}[{index}]") for index, entry in enumerate(value))


def _text_part(entry: object, at: str) -> str:
    part = fields.an_object(entry, at)
    if part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise invalid(at, f"{at} is not a text part", "Give text parts only.")
    _refuse_unknown(part, TEXT_PART, {}, at=f"{at}.")
    return fields.text(part["text"], f"{at}.text")


def _prompts(value: object, model: ModelFacts) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(value, str):
        return (fields.text(value, "prompt"),)
    if isinstance(value, list | tuple) and value:
        if all(fields.is_whole(entry) for entry in value):
            return (_token_ids(value, "prompt", model),)
        if len(value) <= MAX_PROMPTS:
            return tuple(_prompt(entry, f"prompt[{i}]", model) for i, entry in enumerate(value))
    wanted = "prompt must be a string, a list of token ids, or a list of up to 16 of these"
    raise invalid("prompt", wanted, "Give some text.")


def _prompt(entry: object, at: str, model: ModelFacts) -> str | tuple[int, ...]:
    if isinstance(entry, str):
        return fields.text(entry, at)
    if isinstance(entry, list | tuple) and entry and all(fields.is_whole(id) for id in entry):
        return _token_ids(entry, at, model)
    raise invalid(at, f"{at} is {show(entry)}", "Give a string or token ids.")


def _token_ids(ids: list[Any] | tuple[Any, ...], at: str, model: ModelFacts) -> tuple[int, ...]:
    for id in ids:
        if not 0 <= id < model.vocab_size:
            wanted = f"Token ids of this model are 0 to {model.vocab_size - 1}."
            raise invalid(at, f"{at} has the token {show(id)}", wanted)
    return tuple(int(id) for id in ids)


def _max_tokens(given: Params) -> int | None:
    older = fields.whole(given, "max_tokens", 1, MAX_TOKENS)
    newer = fields.whole(given, "max_completion_tokens", 1, MAX_TOKENS)
    if older is not None and newer is not None and older != newer:
        both = "max_tokens and max_completion_tokens differ"
        raise invalid("max_tokens", both, "Give max_completion_tokens alone.")
    return older if newer is None else newer


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if len(stops) > MAX_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        wanted = f"stop must be a non-empty string or up to {MAX_STOPS} of them"
        raise invalid("stop", wanted, "Give fewer or other strings.")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        most = f"A stop string may have {MAX_STOP_CHARACTERS} characters"
        raise invalid("stop", most, "Give the beginning of yours.")
    return tuple(fields.text(stop, "stop") for stop in stops)


def _bias(value: object, vocab_size: int) -> dict[int, float]:
    biases: dict[int, float] = {}
    if value is None:
        return biases
    for key, bias in fields.an_object(value, "logit_bias").items():
        id = _token_id(key)
        if id is None or id >= vocab_size:
            wanted = f"Token ids of this model are 0 to {vocab_size - 1}."
            raise invalid("logit_bias", f"logit_bias has the token {show(key)}", wanted)
        if not fields.is_number(bias) or not -100 <= bias <= 100:
            raise invalid("logit_bias", f"logit_bias of {id} is {show(bias)}", "Use -100 to 100.")
        biases[id] = bias
    return biases


def _token_id(key: object) -> int | None:
    """In Python, token ids may be numbers; in JSON they are strings."""
    if isinstance(key, str):
        return int(key) if re.fullmatch(r"\d{1,18}", key, re.ASCII) else None
    return key if isinstance(key, int) and 0 <= key <= LARGEST_WHOLE else None


def _chat_logprobs(given: Params) -> int | None:
    count = fields.whole(given, "top_logprobs", 0, MAX_TOP_LOGPROBS) or 0
    if fields.flag(given, "logprobs"):
        return count
    if not count:
        return None
    raise invalid("top_logprobs", "top_logprobs needs logprobs", "Set logprobs to true.")


def _include_usage(given: Params, stream: bool) -> bool:
    if given.get("stream_options") is None:
        return False
    options = fields.an_object(given["stream_options"], "stream_options")
    _refuse_unknown(options, STREAM_OPTIONS, {}, at="stream_options.")
    if not stream:
        raise invalid("stream_options", "stream_options needs stream", "Set stream to true.")
    return bool(fields.flag(options, "include_usage"))
