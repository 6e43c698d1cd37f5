"""From a model's logits to the scores that its tokens are drawn by."""

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlc_edge.engine.protocol import SamplingSettings

LARGEST_FINITE = float(np.finfo(np.float32).max)

Logits = npt.NDArray[np.float32]


class Penalties:
    """Penalties and bias of one choice, as Sampler defines them.

    A step's work grows with the tokens that they touch, not with the vocabulary.
    """

    def __init__(self, settings: SamplingSettings, prompt: Sequence[int]) -> None:
        self._settings = settings
        self._repeats = settings.repetition_penalty != 1
        self._counts_tokens = self._repeats or bool(
            settings.presence_penalty or settings.frequency_penalty
        )
        self.applies = self._counts_tokens or bool(settings.logit_bias)
        self._places: dict[int, int] = {}
        self._ids = array("q")
        self._biases, self._counts, self._repeated = array("d"), array("d"), array("b")
        for id, bias in settings.logit_bias.items():
            self._biases[self._place(id)] = bias
        for id in prompt if self._repeats else ():
            self._repeated[self._place(id)] = True

    def drew(self, id: int) -> None:
        """The answer has one more token."""
        if self._counts_tokens:
            place = self._place(id)
            self._counts[place] += 1
            self._repeated[place] = True

    def scores(self, logits: Logits) -> Logits:
        """Scores float32 [vocabulary] of such logits, which aren't changed."""
        settings = self._settings
        ids = np.frombuffer(self._ids, np.int64)
        # Tokens that a prompt may have but an answer may not lie beyond the logits.
        present = np.flatnonzero(ids < len(logits))
        ids = ids[present]
        values = logits[ids].astype(np.float64)
        if self._repeats:
            penalty = settings.repetition_penalty
            repeated = np.frombuffer(self._repeated, np.bool_)[present]
            changed = np.where(values > 0, values / penalty, values * penalty)
            values = np.where(repeated, changed, values)
        counts = np.frombuffer(self._counts, np.float64)[present]
        lowered = values - settings.presence_penalty - counts * settings.frequency_penalty
        values = np.where(counts > 0, lowered, values)
        values += np.frombuffer(self._biases, np.float64)[present]
        finite = np.clip(values, -LARGEST_FINITE, LARGEST_FINITE)
        scores = logits.copy()
        scores[ids] = np.where(np.isinf(values), values, finite)
        return scores

    def _place(self, id: int) -> int:
        place = self._places.setdefault(id, len(self._ids))
        if place == len(self._ids):
            self._ids.append(id)
            self._biases.append(0)
            self._counts.append(0)
            self._repeated.append(False)
        return place
