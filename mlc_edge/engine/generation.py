"""One choice of an answer while it is written."""

from dataclasses import dataclass, replace

from mlc_edge.engine.detokenizer import Detokenizer
from mlc_edge.engine.protocol import CompletionRequest
from mlc_edge.engine.sampler import Logits, Sample, Sampler, ScoredToken
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.openai import ContentLogprob, FinishReason, TokenLogprob


@dataclass(frozen=True)
class TokenEvent:
    """What a token added to a choice, often nothing that can be shown yet.

    `logprobs` are those of all tokens since the last event that had text.
    """

    choice: int
    text: str
    logprobs: tuple[ContentLogprob, ...] = ()
    finish: FinishReason | None = None


@dataclass(frozen=True)
class GenerationContext:
    """What all choices of a request share; `context_window_size` counts the prompt, too."""

    request: CompletionRequest
    vocabulary: Vocabulary
    stop_tokens: frozenset[int]
    context_window_size: int
    seed: int


class Generation:
    """Draws tokens and turns them into text; `tokens` are those of prompt and answer so far."""

    def __init__(
        self, context: GenerationContext, prompt: list[int], *, choice: int, nth: int = 0
    ) -> None:
        """`choice` names it in the answer; of choices with the same prompt it is the `nth`."""
        self.tokens = list(prompt)
        self.finished = False
        self._context = context
        self.prompt_length = len(prompt)
        self.scores_prompt = False
        self._choice = choice
        request = context.request
        self.sampler = Sampler(request.sampling, context.seed, nth, prompt)
        self._detokenizer = Detokenizer(context.vocabulary, request.stop)
        self._logprobs: list[ContentLogprob] = []

    @property
    def length(self) -> int:
        """How many tokens were drawn, the one that ended the answer included."""
        return len(self.tokens) - self.prompt_length

    def score(self, first: int, logits: Logits) -> None:
        """Note log probabilities of prompt tokens."""

    def accept(self, sample: Sample) -> TokenEvent:
        """The next token was drawn."""
        self.tokens.append(sample.id)
        context = self._context
        if not context.request.ignore_eos and sample.id in context.stop_tokens:
            return self.end("stop")
        if context.request.sampling.logprobs is not None:
            self._logprobs.append(self._scored(sample))
        text = self._detokenizer.push(sample.id)
        if text.stopped:
            return self._piece(text.text, "stop")
        if not self._is_full():
            return self._piece(text.text, None)
        end = self.end("length")
        return replace(end, text=text.text + end.text)

    def end(self, reason: FinishReason) -> TokenEvent:
        """End the answer; gives what was held back."""
        rest = self._detokenizer.finish()
        return self._piece(rest.text, "stop" if rest.stopped else reason)

    def _is_full(self) -> bool:
        limit = self._context.request.max_tokens
        if len(self.tokens) >= self._context.context_window_size:
            return True
        return limit is not None and self.length >= limit

    def _piece(self, text: str, finish: FinishReason | None) -> TokenEvent:
        self.finished = finish is not None
        if not text and finish is None:
            return TokenEvent(self._choice, "")
        logprobs, self._logprobs = tuple(self._logprobs), []
        return TokenEvent(self._choice, text, logprobs, finish)

    def _scored(self, sample: Sample) -> ContentLogprob:
        named = self._named(sample)
        top = tuple(map(self._named, sample.top))
        return ContentLogprob(named.token, named.logprob, named.bytes, top)

    def _named(self, scored: ScoredToken) -> TokenLogprob:
        vocabulary = self._context.vocabulary
        data = tuple(vocabulary.bytes(scored.id))
        return TokenLogprob(vocabulary.text(scored.id), scored.logprob, data)
