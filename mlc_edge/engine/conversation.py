"""From messages to the token ids that a model reads."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jinja2
from tokenizers import Tokenizer

from mlc_edge.chat_template import SPECIAL_NAMES, ChatTemplate
from mlc_edge.engine.control_tokens import ControlTokens
from mlc_edge.engine.protocol import ChatMessage
from mlc_edge.engine.turns import cuts, first_turn
from mlc_edge.errors import EngineError

ContextPolicy = Literal["error", "truncate-oldest"]


@dataclass(frozen=True)
class ContextLimits:
    """How long prompts may be, in tokens; `reserve` is kept for answers by "truncate-oldest"."""

    window: int
    policy: ContextPolicy
    reserve: int


class Conversation:
    """A model's tokenizer and chat template."""

    def __init__(self, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
        """`tokenizer` and `config`: contents of tokenizer.json and tokenizer_config.json."""
        self._tokenizer = Tokenizer.from_str(json.dumps(tokenizer))
        self._template = ChatTemplate(config)
        written = "\n".join((self._template.source, *self._template.special_tokens.values()))
        self._control = ControlTokens(tokenizer, written, self._tokenizer)

    @property
    def tokenizer_info(self) -> dict[str, str | None]:
        """The template's source, and the texts of special tokens that templates may use."""
        given = {name: self._template.special_tokens.get(name) for name in SPECIAL_NAMES}
        return {**given, "chat_template": self._template.source}

    @property
    def front(self) -> tuple[int, ...]:
        """The tokens that the tokenizer puts before a text that no template wrote, such as <s>."""
        return self._control.front

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without any that mark its begin or end; names of control tokens become these."""
        return self._control.encode(text, {})

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def tokens(self, messages: Sequence[ChatMessage], begun: str = "") -> list[int]:
        """The prompt of an answer to `messages`; the template alone says which control tokens it has.

        An answer that has `begun` goes on where it was, whatever the template makes of past answers.
        """
        answer = ChatMessage("assistant", begun)
        (*contents, answer), apart = self._control.set_apart([*messages, answer])
        prompt = self._control.encode(self._render(contents), apart)
        return [*prompt, *self._control.encode(answer.content, apart)]

    def fit(
        self,
        messages: Sequence[ChatMessage],
        limits: ContextLimits,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        begun: str = "",
    ) -> list[int]:
        """The prompt, shortened by its oldest exchanges if the policy allows and it needs to be.

        Raises EngineError: context_length_exceeded if no way leaves room for an answer; cancelled if
        `cancelled`, which is asked between long steps, says so.
        """

        def check() -> None:
            if cancelled():
                raise EngineError("cancelled", "The request was cancelled.")

        check()
        window = limits.window
        whole = ids = self.tokens(messages, begun)
        check()
        room = window - min(limits.reserve, window // 2)
        if limits.policy == "truncate-oldest" and len(whole) > room:
            *lengths, of_begun = self._control.lengths([*(m.content for m in messages), begun])
            first = first_turn(messages)
            for cut in cuts(messages, lengths, window=window, room=room - of_begun):
                check()
                ids = self.tokens([*messages[:first], *messages[cut:]], begun)
                if len(ids) <= room:
                    break
        check_length(len(ids), window, len(whole), "messages")
        return ids

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        try:
            return self._template.render(
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
