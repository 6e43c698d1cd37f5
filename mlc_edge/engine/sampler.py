"""From logits to a token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlc_edge.engine.philox import uniform
from mlc_edge.engine.protocol import SamplingSettings
from mlc_edge.errors import EngineError

LOWEST_LOGPROB = -9999.0

Logits = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


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
    """Draws the tokens of one choice. All arithmetic is in double precision, in this order:

    1. repetition penalty r, for each token of prompt or answer: l / r if l > 0, else l * r
    2. for each token that the answer has c times: l - presence - c * frequency
    3. logit bias is added; log probabilities that are reported are the log softmax of this
    4. temperature 0 takes the largest, the lowest id among equals; else p = softmax(l / temperature)
    5. top_p keeps the most probable (lower id first among equals) until their sum, in that order,
       reaches top_p
    6. of the kept, in order of id, the first whose running sum exceeds u * (their sum); u is
       `uniform(seed, choice, position)`
    """

    def __init__(
        self, settings: SamplingSettings, seed: int, choice: int, prompt: Sequence[int]
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._choice = choice
        self._seen = set(() if settings.repetition_penalty == 1 else prompt)
        self._counts: Counter[int] = Counter()
        self._position = 0
        self._keeps_order = (
            settings.repetition_penalty == 1
            and settings.presence_penalty == 0
            and settings.frequency_penalty == 0
            and not settings.logit_bias
        )

    def sample(self, logits: Logits) -> Sample:
        """Draw the next token from float32 [vocabulary], which isn't changed."""
        settings = self._settings
        if settings.temperature == 0 and self._keeps_order and settings.logprobs is None:
            sample = Sample(int(logits.argmax()), 0.0)
        else:
            scores = self._scores(logits)
            greedy = settings.temperature == 0
            sample = self._report(scores, int(scores.argmax()) if greedy else self._draw(scores))
        self._counts[sample.id] += 1
        self._seen.add(sample.id)
        self._position += 1
        return sample

    def _scores(self, logits: Logits) -> Scores:
        settings = self._settings
        scores = logits.astype(np.float64)
        if settings.repetition_penalty != 1:
            seen = np.fromiter(self._seen, np.int64, len(self._seen))
            values, penalty = scores[seen], settings.repetition_penalty
            scores[seen] = np.where(values > 0, values / penalty, values * penalty)
        for id, count in self._counts.items():
            penalty = settings.presence_penalty + count * settings.frequency_penalty
            if penalty:
                scores[id] = (
                    scores[id] - settings.presence_penalty - (count * settings.frequency_penalty)
                )
        for id, bias in settings.logit_bias.items():
            scores[id] += bias
        return scores

    def _draw(self, scores: Scores) -> int:
        settings = self._settings
        tempered = scores / settings.temperature
        powers = np.exp(tempered - tempered.max())
        probabilities = powers / powers.sum()
        kept = _nucleus(probabilities, settings.top_p) if settings.top_p < 1 else None
        sums = np.cumsum(probabilities if kept is None else probabilities[kept])
        u = uniform(self._seed, self._choice, self._position)
        index = min(int(np.searchsorted(sums, u * sums[-1], side="right")), len(sums) - 1)
        return index if kept is None else int(kept[index])

    def _report(self, scores: Scores, id: int) -> Sample:
        count = self._settings.logprobs
        if count is None:
            return Sample(id, 0.0)
        highest = scores.max()
        offset = highest + np.log(np.exp(scores - highest).sum())

        def scored(token: int) -> ScoredToken:
            return ScoredToken(token, max(float(scores[token] - offset), LOWEST_LOGPROB))

        best = np.lexsort((np.arange(len(scores)), -scores))[:count] if count else ()
        return Sample(id, scored(id).logprob, tuple(scored(int(token)) for token in best))


def sample_rows(samplers: Sequence["Sampler"], logits: Logits) -> list[Sample | EngineError]:
    """The next token of each row of float32 [b, vocabulary]; one that fails fails alone."""
    return [sampler.sample(row) for sampler, row in zip(samplers, logits, strict=True)]


def _nucleus(probabilities: Scores, top_p: float) -> npt.NDArray[np.int64]:
    """Ids of the smallest set of most probable tokens that together reach `top_p`, in order of id."""
    # What is less likely than this can't be among them, and needn't be sorted.
    cutoff = (1 - top_p) / max(len(probabilities) - 1, 1)
    candidates = np.flatnonzero(probabilities >= cutoff)
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    sums = np.cumsum(probabilities[order])
    return np.sort(order[: int((sums < top_p).sum()) + 1])
