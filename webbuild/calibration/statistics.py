"""What each linear layer reads, from a model in floats that computes on while statistics are asked for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from webbuild.calibration.corpus import Ids
from webbuild.models.llama_float import UNCHECKED, FloatModel
from webbuild.parallel import cpu_count
from webbuild.quantization.groups import Floats

# What a thread computes at once: a layer's inner states of them are in memory.
BATCH_TOKENS = 512
# Of the median of hidden states' mean squares: smaller ones count as this. Tokens that were never trained
# have states near zero, and would outweigh all others.
LEAST_SHARE = 1 / 16


@dataclass(frozen=True)
class _Sum:
    """Over tokens, by their weights: of squares [k] or of products [k, k]."""

    total: Floats
    weight: float

    @classmethod
    def of(cls, inputs: Floats, emphasis: Floats, *, products: bool) -> "_Sum":
        """Of inputs [tokens, k], which count by `emphasis` [tokens]."""
        scaled = inputs * np.sqrt(emphasis)[:, None]
        total = scaled.T @ scaled if products else np.einsum("tk,tk->k", scaled, scaled)
        return cls(total, float(emphasis.sum()))

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(self.total + other.total, self.weight + other.weight)


class Statistics:
    """Means over a text's tokens of each linear layer's inputs' squares, or of their products.

    A token counts by the inverse of its hidden state's mean square: norms divide by that, so an error of
    the same size does less harm to a larger state; none counts more than 16 times the median one. Layers
    are computed in their order, once, when they are asked for: memory is that of one layer and of the
    hidden states between two.
    """

    def __init__(
        self, model: FloatModel, tokens: Ids, threads: ThreadPoolExecutor, *, products: bool
    ) -> None:
        """`products` asks for means of products [k, k], not squares [k]; threads' number changes nothing."""
        self._model, self._tokens, self._threads = model, tokens, threads
        self._products = products
        self._next = 0
        self._hidden: Floats | None = None
        self._sums: dict[str, _Sum] = {}

    @UNCHECKED
    def of(self, parameter: str) -> Floats | None:
        """float32 [k] or [k, k] of the linear layer with this weight; of tied embeddings, as the head.

        None where they say nothing: the text brings only zeros there, or what float32 can't hold.
        """
        wanted = self._model.layer_of(parameter)
        if self._hidden is None or wanted < self._next - 1:
            self._next, self._sums = 0, {}
            self._hidden = self._model.embed(self._tokens)
        while parameter not in self._sums:
            assert self._next <= wanted, f"{parameter} is no linear layer of the model"
            self._advance(self._hidden)
        found = self._sums[parameter]
        mean: Floats = found.total / np.float32(found.weight)
        return mean if np.isfinite(mean).all() and mean.any() else None

    def _advance(self, hidden: Floats) -> None:
        """Compute one layer, or the last norm after all of them, in place, and take its statistics."""
        self._sums = {}
        batches = list(_batches(hidden))
        # Products of a wide layer's inputs are hundreds of megabytes, for each batch.
        wave = 2 if self._products else cpu_count()
        # Sums are added in one order.
        for start in range(0, len(batches), wave):
            for sums in self._threads.map(self._batch, batches[start : start + wave]):
                for name, found in sums.items():
                    self._sums[name] = self._sums[name] + found if name in self._sums else found
        self._next += 1

    @UNCHECKED
    def _batch(self, states: Floats) -> dict[str, _Sum]:
        emphasis = self._emphasis(states)
        sums: dict[str, _Sum] = {}

        def take(name: str, inputs: Floats) -> None:
            sums[name] = _Sum.of(inputs, emphasis, products=self._products)

        if self._next < self._model.layers:
            states[:] = self._model.layer(self._next, states, take)
        else:
            states[:] = self._model.norm(states)
            # The norm has made all states of one size.
            emphasis = np.ones_like(emphasis)
            take(self._model.head, states.reshape(-1, states.shape[-1]))
        return sums

    def _emphasis(self, states: Floats) -> Floats:
        squares = np.mean(np.square(states), axis=-1).reshape(-1)
        least = LEAST_SHARE * np.median(squares)
        emphasis: Floats = 1 / (
            np.maximum(squares, least) + np.float32(self._model.config.rms_norm_eps)
        )
        return emphasis


def _batches(hidden: Floats) -> Iterator[Floats]:
    count, length = hidden.shape[:2]
    step = max(1, BATCH_TOKENS // length)
    for start in range(0, count, step):
        yield hidden[start : start + step]
