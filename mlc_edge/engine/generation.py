"""One choice of an answer while it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mlc_edge.engine.detokenizer import Detokenizer
from mlc_edge.engine.penalties import Logits
from mlc_edge.engine.protocol import CompletionRequest
from mlc_edge.engine.sampler import Sample, Sampler, ScoredToken, score_rows
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.openai import FinishReason, TokenLogprob


@dataclass(frozen=True)
class TokenScore:
    """A token, its log probability (None for a prompt's first), and the likeliest in its place.

    `offset` counts the characters of prompt or answer that were complete before it.
    """

    token: str
    logprob: float | None
    bytes: tuple[int, ...]
    top: tuple[TokenLogprob, ...]
    offset: int


@dataclass(frozen=True)
class TokenEvent:
    """What a token added to a choice, often nothing that can be shown yet.

    `logprobs` are those of all tokens since the last event that had text; `prompt_logprobs` those of the
    prompt, where they were asked for, on the first event.
    """

    choice: int
    text: str
    logprobs: tuple[TokenScore, ...] = ()
    finish: FinishReason | None = None
    prompt_logprobs: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class GenerationContext:
    """What all choices of a request share; `context_window_size` counts the prompt, too.

    `front_tokens` is how many tokens the tokenizer put before each prompt that was given as text.

    `prompt_samples` are the tokens of prompts that were scored, by prompt and position.
    """

    request: CompletionRequest
    vocabulary: Vocabulary
    stop_tokens: frozenset[int]
    context_window_size: int
    seed: int
    front_tokens: int = 0
    prompt_samples: dict[int, dict[int, Sample]] = field(default_factory=dict)


class Generation:
    """Turns tokens into text; `tokens` are those of prompt and answer so far, `sampler` draws the next.

    `scores_prompt`: the log probabilities of the prompt's tokens are wanted.
    """

    def __init__(
        self, context: GenerationContext, prompt: list[int], *, choice: int, nth: int = 0
    ) -> None:
        """`choice` names it in the answer; of choices with the same prompt it is the `nth`."""
        request = context.request
        self.tokens = list(prompt)
        self.finished = False
        self.prompt_length = len(prompt)
        self.scores_prompt = request.echo and request.sampling.logprobs is not None
        self.sampler = Sampler(request.sampling, context.seed, nth, prompt)
        self._context = context
        self._choice = choice
        self._prompt = choice // request.choices
        self._has_begun = False
        self._detokenizer = Detokenizer(
            context.vocabulary, request.stop, goes_on=request.begun != ""
        )
        self._logprobs: list[TokenScore] = []

    @property
    def length(self) -> int:
        """How many tokens were drawn, the one that ended the answer included."""
        return len(self.tokens) - self.prompt_length

    def score(self, first: int, logits: Logits) -> None:
        """Note log probabilities of the prompt; `logits` [n, vocabulary] follow its tokens from `first` on.

        Raises EngineError internal for damaged logits.
        """
        following = self.tokens[first + 1 : min(first + 1 + len(logits), self.prompt_length)]
        count = self._context.request.sampling.logprobs or 0
        samples = score_rows(following, logits[: len(following)], count)
        known = self._context.prompt_samples.setdefault(self._prompt, {})
        known.update(enumerate(samples, first + 1))

    def accept(self, sample: Sample) -> TokenEvent:
        """Take the next token, which `sampler` drew."""
        context = self._context
        if context.request.max_tokens == 0:
            return self.end("length")
        self.tokens.append(sample.id)
        if not context.request.ignore_eos and sample.id in context.stop_tokens:
            return self.end("stop")
        if context.request.sampling.logprobs is not None:
            self._logprobs.append(self._scored(sample, self._detokenizer.decoded))
        text = self._detokenizer.push(sample.id)
        if text.stopped:
            return self._event(text.text, "stop")
        if not self._is_full():
            return self._event(text.text, None)
        end = self.end("length")
        return replace(end, text=text.text + end.text)

    def end(self, reason: FinishReason) -> TokenEvent:
        """End the answer; gives what was held back."""
        rest = self._detokenizer.finish()
        return self._event(rest.text, "stop" if rest.stopped else reason)

    def _is_full(self) -> bool:
        limit = self._context.request.max_tokens
        if len(self.tokens) >= self._context.context_window_size:
            return True
        return limit is not None and self.length >= limit

    def _event(self, text: str, finish: FinishReason | None) -> TokenEvent:
        self.finished = finish is not None
        if not text and finish is None:
            return TokenEvent(self._choice, "")
        prompt = () if self._has_begun or not self.scores_prompt else self._prompt_logprobs()
        self._has_begun = True
        logprobs, self._logprobs = tuple(self._logprobs), []
        return TokenEvent(self._choice, text, logprobs, finish, prompt)

    def _prompt_logprobs(self) -> tuple[TokenScore, ...]:
        context = self._context
        ids = self.tokens[: self.prompt_length]
        samples = context.prompt_samples.get(self._prompt, {})
        is_text = isinstance(context.request.prompts[self._prompt], str)
        to_bytes = context.vocabulary.written if is_text else context.vocabulary.bytes
        # A prompt's text has nothing of what the tokenizer put before it.
        front = [0] * (context.front_tokens if is_text else 0)
        offsets = [*front, *_offsets(ids[len(front) :], context.vocabulary, to_bytes)]
        scored = [
            self._scored(samples.get(position, Sample(id, 0.0)), offset)
            for position, (id, offset) in enumerate(zip(ids, offsets, strict=True))
        ]
        return tuple(
            score if position in samples else replace(score, logprob=None)
            for position, score in enumerate(scored)
        )

    def _scored(self, sample: Sample, offset: int) -> TokenScore:
        named = self._named(sample)
        top = tuple(map(self._named, sample.top))
        return TokenScore(named.token, named.logprob, named.bytes or (), top, offset)

    def _named(self, scored: ScoredToken) -> TokenLogprob:
        vocabulary = self._context.vocabulary
        data = tuple(vocabulary.bytes(scored.id))
        return TokenLogprob(vocabulary.text(scored.id), scored.logprob, data)


@dataclass
class _Bytes:
    """What tokens stand for in a prompt."""

    strips_first_space: bool
    bytes: Callable[[int], bytes]


def _offsets(
    ids: Sequence[int], vocabulary: Vocabulary, to_bytes: Callable[[int], bytes]
) -> list[int]:
    """How many characters of the text are complete before each token."""
    detokenizer = Detokenizer(_Bytes(vocabulary.strips_first_space, to_bytes), ())
    offsets = []
    for id in ids:
        offsets.append(detokenizer.decoded)
        detokenizer.push(id)
    return offsets
