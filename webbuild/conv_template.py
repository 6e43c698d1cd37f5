"""MLC's `conv_template`: a checkpoint's Jinja chat template as the strings that MLC's runtimes put together.

Messages that are easily found again are rendered by the Jinja template; what it puts around them becomes the
strings. Whether these say the same is then tried on whole conversations, by the rules of each runtime:
WebLLM's `Conversation.getPromptArray` and MLC LLM's `Conversation.as_prompt`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from mlc_edge.chat_template import ChatTemplate, special_tokens
from webbuild.model_folder import ChatFiles

WEB_LLM, MLC_LLM = "WebLLM", "MLC LLM"
SYSTEM_PLACE, USER_PLACE, ASSISTANT_PLACE = (
    "{system_message}",
    "{user_message}",
    "{assistant_message}",
)
# Words that no template has.
SYSTEM, FIRST, ANSWER, SECOND = "qsystemq", "qfirstq", "qanswerq", "qsecondq"
MOST_TURNS = 5

Message = Mapping[str, str]
Render = Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class ConvTemplate:
    """`fields` of mlc-chat-config.json's conv_template, and why a runtime can't chat by them, if so."""

    fields: dict[str, Any]
    problems: Mapping[str, str]


class _Inexpressible(Exception):
    """What MLC's fields can't say."""


class _Refused(_Inexpressible):
    """The template fails at these messages."""


def derive_conv_template(chat: ChatFiles) -> ConvTemplate:
    """The conv_template that renders conversations as `chat`'s Jinja template does.

    Without one, its fields are those without which configurations are refused.
    """
    stop_tokens = chat.generation_config.get("eos_token_id")
    listed = stop_tokens if isinstance(stop_tokens, list) else [stop_tokens]
    required = {
        "name": "chat_template",
        "stop_str": [],
        "stop_token_ids": [token for token in listed if token is not None],
    }
    try:
        render, begin = _renderer(chat)
        fields = {**_strings(render), **begin}
        problems = _differences(fields, render)
    except _Inexpressible as reason:
        problems = {WEB_LLM: str(reason), MLC_LLM: str(reason)}
    if WEB_LLM in problems:
        return ConvTemplate(required, problems)
    return ConvTemplate({**required, **fields}, problems)


def _renderer(chat: ChatFiles) -> tuple[Render, dict[str, Any]]:
    """The Jinja template without a token that only begins prompts, and the field for that token."""
    render = _any_failure_told(chat.tokenizer_config)
    begin = special_tokens(chat.tokenizer_config).get("bos_token", "")
    added = chat.tokenizer.get("added_tokens") or []
    ids = [entry["id"] for entry in added if begin and entry.get("content") == begin]
    sample = render([_user(FIRST), _assistant(ANSWER), _user(SECOND)])
    if not ids or not sample.startswith(begin) or sample.count(begin) > 1:
        return render, {}

    def render_rest(messages: Sequence[Message]) -> str:
        text = render(messages)
        if not text.startswith(begin):
            raise _Inexpressible(f"only some conversations begin with {begin}")
        return text.removeprefix(begin)

    return render_rest, {"system_prefix_token_ids": ids[:1]}


def _any_failure_told(tokenizer_config: dict[str, Any]) -> Render:
    """The template comes from outside: whatever it raises means that it can't be followed."""
    if "strftime_now" in str(tokenizer_config.get("chat_template")):
        raise _Inexpressible("it writes the date of the day")

    def render(messages: Sequence[Message]) -> str:
        try:
            return ChatTemplate(tokenizer_config).render(messages)
        except Exception as error:
            raise _Refused(f"it refuses a conversation ({error})") from error

    return render


def _strings(render: Render) -> dict[str, Any]:
    """The fields, by what the template puts before, between and after messages."""
    question, answer, next_question = _user(FIRST), _assistant(ANSWER), _user(SECOND)
    start, end = _around(render([question]), FIRST)
    longer = render([question, answer, next_question])
    same_start, to_answer, to_question, same_end = _around(longer, FIRST, ANSWER, SECOND)
    if (same_start, same_end) != (start, end):
        raise _Inexpressible("it renders the first or the last message otherwise as others join it")
    user_role = _common_suffix(start, to_question)
    after_answer = to_question.removesuffix(user_role)
    # What ends every message belongs to none of the roles.
    alike = to_answer.startswith(after_answer) and end.startswith(after_answer)
    after_question = after_answer if alike else ""
    before_answer, header = to_answer[len(after_question) :], end[len(after_question) :]
    assistant_role = _common_prefix(before_answer, header)
    return {
        **_system(render, start, end, user_role),
        "roles": {"user": user_role, "assistant": assistant_role},
        "role_templates": {
            "user": USER_PLACE,
            "assistant": before_answer[len(assistant_role) :] + ASSISTANT_PLACE,
            "tool": "{tool_message}",
        },
        "messages": [],
        "seps": [after_question, after_answer],
        "role_content_sep": "",
        "role_empty_sep": header[len(assistant_role) :],
        "function_string": "",
        "use_function_calling": False,
    }


def _system(render: Render, start: str, end: str, user_role: str) -> dict[str, Any]:
    """Fields of the system prompt; `start` is what comes before a question without one."""
    unasked = start.removesuffix(user_role)
    try:
        rendered = render([_message("system", SYSTEM), _user(FIRST)])
    except _Refused:
        return _system_fields(SYSTEM_PLACE, unasked, add_role=True)
    before, between, same_end = _around(rendered, SYSTEM, FIRST)
    if same_end != end:
        raise _Inexpressible("a system prompt changes what is around other messages")
    add_role = between.endswith(user_role)
    after = between.removesuffix(user_role) if add_role else between
    if not unasked:
        return _system_fields(before + SYSTEM_PLACE + after, "", add_role=add_role)
    default = unasked if add_role else start
    if len(default) < len(before + after) or not (
        default.startswith(before) and default.endswith(after)
    ):
        raise _Inexpressible("what it says without a system prompt is no system prompt")
    message = default[len(before) : len(default) - len(after)]
    return _system_fields(before + SYSTEM_PLACE + after, message, add_role=add_role)


def _system_fields(template: str, message: str, *, add_role: bool) -> dict[str, Any]:
    return {
        "system_template": template,
        "system_message": message,
        "add_role_after_system_message": add_role,
        # Of WebLLM alone: no system message, no text of the template around it.
        "render_empty_system_message": False,
    }


def _differences(fields: Mapping[str, Any], render: Render) -> dict[str, str]:
    """For each runtime that renders a conversation otherwise than the Jinja template: which one."""
    problems: dict[str, str] = {}
    for messages in _conversations():
        with_system = messages[0]["role"] == "system"
        try:
            expected = render(messages)
        except _Refused:
            if with_system:
                continue
            raise
        for runtime in (WEB_LLM, MLC_LLM):
            if render_as(runtime, fields, messages) != expected:
                count = sum(message["role"] == "user" for message in messages)
                turns = "one turn" if count == 1 else f"{count} turns"
                prompt = "with a system prompt" if with_system else "without a system prompt"
                problems.setdefault(runtime, f"{turns} {prompt} can't be said")
    return problems


def _conversations() -> Iterator[list[Message]]:
    turns: list[Message] = []
    for number in range(1, MOST_TURNS + 1):
        turns.append(_user(f"Question {number}:\nwhat is {number} + {number}?"))
        yield list(turns)
        yield [_message("system", "You add numbers.\nBe brief."), *turns]
        turns.append(_assistant(f"It is {2 * number}.\n\nIs it not?"))


def render_as(runtime: str, fields: Mapping[str, Any], messages: Sequence[Message]) -> str:
    """The prompt that a runtime makes of messages, by the rules of MLC's conversation templates."""
    given = [message["content"] for message in messages if message["role"] == "system"]
    system_message = given[0] if given else fields["system_message"]
    shown = system_message or runtime == MLC_LLM or fields["render_empty_system_message"]
    system = fields["system_template"].replace(SYSTEM_PLACE, system_message) if shown else ""
    parts = [system]
    turns = [message for message in messages if message["role"] != "system"]
    for index, message in enumerate(turns):
        role = message["role"]
        joins_system = index == 0 and system and not fields["add_role_after_system_message"]
        parts += [
            "" if joins_system else fields["roles"][role] + fields["role_content_sep"],
            fields["role_templates"][role].replace(f"{{{role}_message}}", message["content"]),
            fields["seps"][(role == "assistant") % len(fields["seps"])],
        ]
    return "".join([*parts, fields["roles"]["assistant"], fields["role_empty_sep"]])


def _around(text: str, *words: str) -> list[str]:
    """What is before, between and after words."""
    parts = []
    for word in words:
        part, found, text = text.partition(word)
        if not found or word in text:
            raise _Inexpressible("it leaves messages out, repeats them or changes their order")
        parts.append(part)
    return [*parts, text]


def _common_prefix(left: str, right: str) -> str:
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return "".join(letter for letter, _ in alike)


def _common_suffix(left: str, right: str) -> str:
    return _common_prefix(left[::-1], right[::-1])[::-1]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _user(content: str) -> Message:
    return _message("user", content)


def _assistant(content: str) -> Message:
    return _message("assistant", content)
