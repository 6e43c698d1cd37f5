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
        first = int(scores.argmax()) if likeliest is None else likeliest
        highest = float(scores[first])
        if math.isnan(highest) or highest == -math.inf:
            raise EngineError(
                "internal",
                f"The model's logits are {'not numbers' if math.isnan(highest) else 'all -inf'}.",
                "Its weights may be damaged: run `mlc-edge doctor`.",
            )
        if settings.temperature == 0:
            id = first
        else:
            u = uniform(self._seed, self._choice, self._position)
            id = draw(scores, highest, settings, u=u)
        sample = self._report(scores, highest, id)
        self._penalties.drew(id)
        self._position += 1
        return sample

    def _report(self, scores: Logits, highest: float, id: int) -> Sample:
        count = self._settings.logprobs
        if count is None:
            return Sample(id, 0.0)
        offset = math.log(total(exponentials(scores, highest, 1)))

        def scored(token: int) -> ScoredToken:
            score = float(scores[token])
            relative = 0.0 if score == highest else score - highest
            return ScoredToken(token, max(relative - offset, LOWEST_LOGPROB))

        top = tuple(scored(int(token)) for token in largest(scores, count))
        return Sample(id, scored(id).logprob, top)


def sample_rows(samplers: Sequence[Sampler], logits: Logits) -> list[Sample | EngineError]:
    """One token for each row of float32 [batch, vocabulary], or what is wrong with that row alone.

    A row's token doesn't depend on the other rows.
    """
    likeliest = logits.argmax(axis=1).tolist()
    return [
        _sample_row(sampler, row, first)
        for sampler, row, first in zip(samplers, logits, likeliest, strict=True)
    ]


def _sample_row(sampler: Sampler, row: Logits, likeliest: int) -> Sample | EngineError:
    try:
        return sampler.sample(row, likeliest)
    except EngineError as error:
        return error
    except Exception:
        logger.exception("a token could not be drawn")
        return EngineError("internal", "A token could not be drawn.", "The engine's log says why.")
