"""What each linear layer reads, from a model in floats that computes on while statistics are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from webbuild.calibration.corpus import Ids
from webbuild.models.llama_float import FloatModel
from webbuild.quantization.groups import Floats

# What is computed at once: a layer's inner states of them are in memory.
BATCH_TOKENS = 1024


@dataclass
class _Sums:
    """Over tokens, by their weights: of squares [k] or of products [k, k]."""

    total: Floats
    weight: float

    def add(self, inputs: Floats, emphasis: Floats) -> None:
        scaled = inputs * np.sqrt(emphasis)[:, None]
        self.total += (
            scaled.T @ scaled if self.total.ndim == 2 else np.einsum("tk,tk->k", scaled, scaled)
        )
        self.weight += float(emphasis.sum())

    @property
    def mean(self) -> Floats:
        mean: Floats = self.total / np.float32(self.weight)
        return mean


class Statistics:
    """Means over a text's tokens of each linear layer's inputs' squares, or of their products.

    A token counts by the inverse of its hidden state's mean square: norms divide by that, so an error of
    the same size does less harm to a larger state. Layers are computed in their order, once: memory is
    that of one layer and of the hidden states between two.
    """

    def __init__(
        self, model: Callable[[], FloatModel], tokens: Callable[[], Ids], *, products: bool
    ):
        """`products` asks for means of products [k, k], the inputs' second moments, not squares [k]."""
        self._open, self._tokens = model, tokens
        self._products = products
        self._model: FloatModel | None = None
        self._next = 0
        self._hidden = np.empty((0, 0, 0), np.float32)
        self._sums: dict[str, _Sums] = {}

    def of(self, parameter: str) -> Floats:
        """float32 [k] or [k, k] of the linear layer with this weight; of tied embeddings, as the head."""
        model = self._begun()
        wanted = model.layer_of(parameter)
        if wanted < self._next - 1:
            self._restart(model)
        while parameter not in self._sums:
            assert self._next <= wanted, f"{parameter} is no linear layer of the model"
            self._advance(model)
        return self._sums[parameter].mean

    def _begun(self) -> FloatModel:
        if self._model is None:
            self._model = self._open()
            self._restart(self._model)
        return self._model

    def _restart(self, model: FloatModel) -> None:
        self._next, self._sums = 0, {}
        self._hidden = model.embed(self._tokens())

    def _advance(self, model: FloatModel) -> None:
        """Compute one layer, or the last norm after all of them, and take its statistics."""
        self._sums = {}
        for batch in self._batches():
            states = self._hidden[batch]
            squares = np.mean(np.square(states), axis=-1).reshape(-1)
            emphasis = 1 / np.maximum(squares, np.finfo(np.float32).tiny)

            def take(name: str, inputs: Floats, emphasis: Floats = emphasis) -> None:
                self._take(name, inputs, emphasis)

            if self._next < model.layers:
                self._hidden[batch] = model.layer(self._next, states, take)
            else:
                # The norm has made all states of one size.
                normed = model.norm(states)
                take(model.head, normed.reshape(-1, normed.shape[-1]), np.ones_like(emphasis))
        self._next += 1

    def _batches(self) -> Iterator[slice]:
        count, length = self._hidden.shape[:2]
        step = max(1, BATCH_TOKENS // length)
        for start in range(0, count, step):
            yield slice(start, start + step)

    def _take(self, name: str, inputs: Floats, emphasis: Floats) -> None:
        width = inputs.shape[1]
        if name not in self._sums:
            shape = (width, width) if self._products else (width,)
            self._sums[name] = _Sums(np.zeros(shape, np.float32), 0.0)
        self._sums[name].add(inputs, emphasis)
