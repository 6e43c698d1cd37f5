"""From logits to a token."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlc_edge.engine.penalties import Logits, Penalties
from mlc_edge.engine.philox import uniform
from mlc_edge.engine.protocol import SamplingSettings
from mlc_edge.engine.truncation import draw, exponentials, largest, total
from mlc_edge.errors import EngineError

LOWEST_LOGPROB = -9999.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredToken:
    """A token and its natural log probability."""

    id: int
    logprob: float


@dataclass(frozen=True)
class Sample(ScoredToken):
    """A token that was drawn, and the most probable ones, best first, if they were asked for."""

    top: tuple[ScoredToken, ...] = ()


class Sampler:
    """Draws the tokens of one choice.

    Scores are the logits l after

    1. repetition penalty r, for each token of prompt or answer: l / r if l > 0, else l * r
    2. for each token that the answer has c times: l - presence - c * frequency
    3. logit bias, which is added

    in double precision, rounded to float32 (what is finite stays so). Log probabilities that are
    reported are the log softmax of the scores, at least -9999. Tokens are ordered by score, the lower
    id first among equals. Then, as transformers' logits warpers do,

    4. temperature 0 takes the first token; else p = softmax(score / temperature), where scores of
       +inf share all of the probability
    5. top_k keeps the first k tokens
    6. top_p keeps the first of these until their sum reaches top_p times the sum of these
    7. min_p keeps of these the ones with at least min_p times the first one's probability

    and of what is kept, in order of id, the token is the first whose running sum exceeds u times the
    sum; u is `uniform(seed, choice, position)`.
    """

    def __init__(
        self, settings: SamplingSettings, seed: int, choice: int, prompt: Sequence[int]
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._choice = choice
        self._penalties = Penalties(settings, prompt)
        self._position = 0

    def sample(self, logits: Logits, likeliest: int | None = None) -> Sample:
        """Draw the next token from float32 [vocabulary], which isn't changed.

        `likeliest` is the place of the largest logit, where that is known. Raises EngineError internal
        for logits with NaN, or of -inf only; the sampler is then as it was.
        """
        settings = self._settings
        scores = logits
        if self._penalties.applies:
            scores, likeliest = self._penalties.scores(logits), None
        id = int(scores.argmax()) if likeliest is None else likeliest
        highest = _checked(float(scores[id]))
        if settings.temperature != 0:
            u = uniform(self._seed, self._choice, self._position)
            id = draw(scores, highest, settings, u=u)
        count = settings.logprobs
        sample = Sample(id, 0.0) if count is None else _scored(scores, id, highest, count)
        self._penalties.drew(id)
        self._position += 1
        return sample


def sample_rows(samplers: Sequence[Sampler], logits: Logits) -> list[Sample | EngineError]:
    """One token for each row of float32 [batch, vocabulary], or what is wrong with that row alone.

    A row's token doesn't depend on the other rows.
    """
    likeliest = logits.argmax(axis=1).tolist()
    return [
        _sample_row(sampler, row, first)
        for sampler, row, first in zip(samplers, logits, likeliest, strict=True)
    ]


def score_rows(ids: Sequence[int], logits: Logits, count: int) -> list[Sample]:
    """Tokens that were given: their log probabilities by float32 [tokens, vocabulary], and the likeliest.

    Raises EngineError internal for logits with NaN, or of -inf only.
    """
    highest = logits.max(axis=1).tolist()
    return [
        _scored(row, id, _checked(value), count)
        for id, row, value in zip(ids, logits, highest, strict=True)
    ]


def _sample_row(sampler: Sampler, row: Logits, likeliest: int) -> Sample | EngineError:
    try:
        return sampler.sample(row, likeliest)
    except EngineError as error:
        return error
    except Exception:
        logger.exception("a token could not be drawn")
        return EngineError("internal", "A token could not be drawn.", "The engine's log says why.")


def _checked(highest: float) -> float:
    """The largest score of a row, which tells whether it is of use."""
    if not math.isnan(highest) and highest != -math.inf:
        return highest
    raise EngineError(
        "internal",
        f"The model's logits are {'not numbers' if math.isnan(highest) else 'all -inf'}.",
        "Its weights may be damaged: run `mlc-edge doctor`.",
    )


def _scored(scores: Logits, id: int, highest: float, count: int) -> Sample:
    offset = math.log(total(exponentials(scores, highest, 1)))

    def scored(token: int) -> ScoredToken:
        score = float(scores[token])
        relative = 0.0 if score == highest else score - highest
        return ScoredToken(token, max(relative - offset, LOWEST_LOGPROB))

    # A prompt may have tokens that the model doesn't write.
    logprob = scored(id).logprob if id < len(scores) else LOWEST_LOGPROB
    return Sample(id, logprob, tuple(scored(int(token)) for token in largest(scores, count)))
