"""A model and its rounded twin on a text, a layer at a time, both hidden states together."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from webbuild.calibration.corpus import Ids
from webbuild.models.llama_float import FloatModel
from webbuild.quality.divergence import Agreement, Comparison
from webbuild.quantization.groups import Floats


def hidden_states(model: FloatModel, tokens: Ids) -> Floats:
    """What the head reads, float32 [sequences, tokens, width]."""
    hidden = model.embed(tokens)
    for index in range(model.layers):
        hidden = model.layer(index, hidden)
    return model.norm(hidden)


def agreement(
    reference: FloatModel, model: FloatModel, tokens: Ids, threads: ThreadPoolExecutor
) -> Agreement:
    """How the models agree on each next token of sequences `tokens` int [n, length]."""
    states = threads.map(lambda each: hidden_states(each, tokens)[:, :-1], (reference, model))
    before, after = states
    width = before.shape[-1]
    comparison = Comparison(tokens[:, 1:].reshape(-1))
    for start, ours, theirs in _heads(reference, model):
        comparison.add(
            start, before.reshape(-1, width) @ ours.T, after.reshape(-1, width) @ theirs.T
        )
    return comparison.result()


def _heads(reference: FloatModel, model: FloatModel) -> Iterator[tuple[int, Floats, Floats]]:
    for (start, ours), (_, theirs) in zip(
        reference.head_blocks(), model.head_blocks(), strict=True
    ):
        yield start, ours, theirs


def relative_error(inputs: Floats, reference: Floats, rounded: Floats) -> float:
    """|(W - Q) X| / |W X| of inputs [tokens, k] and weights [n, k]."""
    error = np.linalg.norm(inputs @ (reference - rounded).T)
    size = np.linalg.norm(inputs @ reference.T)
    return float(error / size) if size else 0.0
