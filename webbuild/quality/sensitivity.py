"""What each weight costs in 4 bits: the KL that a model gets of rounding that weight alone.

All are measured in one pass: layer by layer, each rounded weight adds a copy of the sequence, whose hidden
states differ from the model's from there on.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from webbuild.calibration.corpus import Ids
from webbuild.calibration.statistics import BATCH_TOKENS
from webbuild.models.float_weights import FloatWeights
from webbuild.models.llama_float import FloatModel
from webbuild.quality.divergence import Comparison
from webbuild.quantization.groups import Floats

# Every so many tokens' distributions are compared: neighbours say much the same.
POSITION_STEP = 3
# The model as it is computed from some weights.
MakeModel = Callable[[FloatWeights], FloatModel]
# A weight, rounded, float32 [n, k].
RoundWeight = Callable[[str], Floats]


@dataclass(frozen=True)
class Replaced:
    """FloatWeights with other values for one parameter."""

    weights: FloatWeights
    name: str
    values: Floats

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """See webbuild.models.float_weights.FloatWeights."""
        if name == self.name:
            return self.values[start:stop]
        return self.weights.rows(name, start, stop)


@dataclass
class _Copies:
    """Hidden states [copies, tokens, width]; the first copy is the model's own, the others have names."""

    hidden: Floats
    names: list[str] = field(default_factory=list)

    def add(self, name: str, hidden: Floats) -> None:
        self.hidden = np.concatenate([self.hidden, hidden])
        self.names.append(name)

    def advance(self, layer: Callable[[Floats], Floats], threads: ThreadPoolExecutor) -> None:
        step = max(1, BATCH_TOKENS // self.hidden.shape[1])
        starts = range(0, len(self.hidden), step)
        parts = threads.map(lambda start: layer(self.hidden[start : start + step]), starts)
        self.hidden = np.concatenate(list(parts))


def measure_sensitivities(
    make: MakeModel,
    weights: FloatWeights,
    tokens: Ids,
    round_weight: RoundWeight,
    threads: ThreadPoolExecutor,
) -> dict[str, float]:
    """KL in nats a token, on `tokens` int [1, n], of rounding each linear weight and vocabulary alone."""
    model = make(weights)
    embedding = model.embedding
    rounded = {embedding: round_weight(embedding)}
    copies = _Copies(model.embed(tokens))
    copies.add(embedding, make(Replaced(weights, embedding, rounded[embedding])).embed(tokens))
    for index in range(model.layers):
        fresh = list(_perturbed(make, weights, index, copies.hidden[:1], round_weight))
        copies.advance(partial(model.layer, index), threads)
        for name, hidden in fresh:
            copies.add(name, hidden)
    copies.advance(model.norm, threads)
    if model.head != embedding:
        rounded = {model.head: round_weight(model.head)}
        copies.add(model.head, copies.hidden[:1])
    return _divergences(model, copies, rounded, tokens, threads)


def _perturbed(
    make: MakeModel,
    weights: FloatWeights,
    index: int,
    hidden: Floats,
    round_weight: RoundWeight,
) -> Iterator[tuple[str, Floats]]:
    """The layer's result, [1, tokens, width], with each of its linear weights rounded."""
    for name in make(weights).linears(index):
        yield name, make(Replaced(weights, name, round_weight(name))).layer(index, hidden)


def _divergences(
    model: FloatModel,
    copies: _Copies,
    rounded: dict[str, Floats],
    tokens: Ids,
    threads: ThreadPoolExecutor,
) -> dict[str, float]:
    """`rounded` holds the head's weight for the copy that bears its name."""
    measured = slice(0, tokens.shape[1] - 1, POSITION_STEP)
    targets = tokens[0, 1:][measured]
    comparisons = {name: Comparison(targets) for name in copies.names}
    own = copies.hidden[0, measured]
    for start, rows in model.head_blocks():
        logits = own @ rows.T

        def add(
            name: str,
            hidden: Floats,
            start: int = start,
            rows: Floats = rows,
            logits: Floats = logits,
        ) -> None:
            used = rounded[name][start : start + len(rows)] if name == model.head else rows
            comparisons[name].add(start, logits, hidden @ used.T)

        list(threads.map(add, copies.names, copies.hidden[1:, measured]))
    return {name: each.result().mean_divergence for name, each in comparisons.items()}
