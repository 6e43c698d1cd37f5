"""Two models' next-token distributions beside each other, a block of the vocabulary at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbuild.quantization.groups import Floats

Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """At each position: KL(reference || model) in nats, the next token's logarithms, first choices."""

    divergences: Doubles
    reference_logs: Doubles
    model_logs: Doubles
    reference_choices: Ids
    model_choices: Ids

    @property
    def mean_divergence(self) -> float:
        """In nats a token."""
        return float(self.divergences.mean())

    @property
    def same_choice(self) -> float:
        """Share of positions at which both find the same token likeliest."""
        return float((self.reference_choices == self.model_choices).mean())

    @property
    def reference_perplexity(self) -> float:
        """The reference's, of the text."""
        return float(np.exp(-self.reference_logs.mean()))

    @property
    def model_perplexity(self) -> float:
        """The model's, of the text."""
        return float(np.exp(-self.model_logs.mean()))


class _Distribution:
    """Of logits that come in blocks [n, v]: the sum of exponentials, the largest, one token's."""

    def __init__(self, targets: Ids) -> None:
        self.targets = targets
        self.peak = np.full(len(targets), -np.inf)
        self.total = np.zeros(len(targets))
        self.choices = np.zeros(len(targets), np.int64)
        self.target_logits = np.zeros(len(targets))

    def add(self, start: int, logits: Doubles) -> tuple[Doubles, Doubles]:
        """Take a block; returns its exponentials by the new peak, and what sums by the old one shrink by."""
        best = logits.argmax(axis=1)
        highest = np.take_along_axis(logits, best[:, None], axis=1)[:, 0]
        self.choices = np.where(highest > self.peak, best + start, self.choices)
        peak = np.maximum(self.peak, highest)
        shrinking = np.exp(self.peak - peak)
        exponentials = np.exp(logits - peak[:, None])
        self.peak, self.total = peak, self.total * shrinking + exponentials.sum(axis=1)
        inside = np.flatnonzero((self.targets >= start) & (self.targets < start + logits.shape[1]))
        self.target_logits[inside] = logits[inside, self.targets[inside] - start]
        return exponentials, shrinking

    @property
    def log_total(self) -> Doubles:
        """Logarithm of the sum of exponentials."""
        logs: Doubles = self.peak + np.log(self.total)
        return logs


class Comparison:
    """Collects an Agreement from logits [n, v] of both models, block after block of the vocabulary."""

    def __init__(self, targets: npt.ArrayLike) -> None:
        ids = np.asarray(targets, np.int64)
        self._reference, self._model = _Distribution(ids), _Distribution(ids)
        self._difference = np.zeros(len(ids))

    def add(self, start: int, reference: Floats, model: Floats) -> None:
        """Logits of the tokens `start` and following, of all positions."""
        wide, other = reference.astype(np.float64), model.astype(np.float64)
        exponentials, shrinking = self._reference.add(start, wide)
        self._model.add(start, other)
        self._difference *= shrinking
        self._difference += (exponentials * (wide - other)).sum(axis=1)

    def result(self) -> Agreement:
        """After the last block."""
        reference, model = self._reference, self._model
        divergences = self._difference / reference.total - reference.log_total + model.log_total
        return Agreement(
            # Rounding leaves equal distributions a little below zero.
            np.maximum(divergences, 0),
            reference.target_logits - reference.log_total,
            model.target_logits - model.log_total,
            reference.choices,
            model.choices,
        )
