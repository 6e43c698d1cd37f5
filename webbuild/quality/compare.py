"""A bundle, computed by its own library, beside the checkpoint that it was made of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mlc_edge.bundle import read_lock
from mlc_edge.errors import ConfigError
from mlc_edge.model_runner import PAGE_TOKENS, CacheSizes, ModelRunner
from mlc_edge.weight_index import TENSOR_CACHE_NAME
from webbuild.calibration.corpus import Ids, TokenIds
from webbuild.checkpoint import Checkpoint
from webbuild.effort import open_float
from webbuild.models.float_weights import FloatWeights
from webbuild.models.llama_float import FloatModel
from webbuild.models.llama_spec import LlamaConfig
from webbuild.parallel import worker_threads
from webbuild.published import PublishedWeights, open_published
from webbuild.quality.divergence import Agreement, Comparison
from webbuild.quality.measure import hidden_states, relative_error
from webbuild.quality.stored_weights import StoredWeights
from webbuild.quantization.groups import Floats

WINDOW_TOKENS = 512
# More of a text changes the third digit, and takes minutes.
MOST_WINDOWS = 16
# Of the bundle, from the model that it was made of: a context window or a name may be another.
MAY_DIFFER = ("context_length", "model_type")
Report = Callable[[str], None]


@dataclass(frozen=True)
class LayerError:
    """|(W - Q) X| / |W X| of one linear layer, X being what the reference multiplies it with."""

    layer: str
    format: str
    error: float


@dataclass(frozen=True)
class ComparedModel:
    """`agreement` has a position for each of `targets`, which follow `contexts` (token ids)."""

    agreement: Agreement
    contexts: Sequence[Sequence[int]]
    layers: Sequence[LayerError]
    parameter_bytes: int
    target: str


def compare(bundle: Path, source: Checkpoint, text: str, report: Report) -> ComparedModel:
    """How `bundle`'s library for this machine agrees with `source` on `text`, in windows of 512 tokens.

    Raises ConfigError if the two are different models, or the text is too short; BundleError if the bundle
    can't be run here.
    """
    published = open_published(bundle, None)
    _require_same_model(published, source, text)
    window = min(WINDOW_TOKENS, read_lock(bundle).model.context_window_size)
    tokens = TokenIds(source.chat).sequences(text, length=window, count=MOST_WINDOWS)
    report("computing the reference")
    reference = open_float(source)
    with _weights(published) as weights, worker_threads() as threads:
        layers = _layer_errors(reference, tokens[:1], weights, published)
        states = np.concatenate(
            list(threads.map(lambda row: hidden_states(reference, row[None]), tokens))
        )
    report("running the bundle")
    runner = ModelRunner(bundle)
    agreement = _agreement(reference, states, runner, tokens)
    return ComparedModel(
        agreement,
        [list(row[: index + 1]) for row in tokens.tolist() for index in range(1, len(row))],
        layers,
        read_lock(bundle).targets[runner.target].parameter_bytes,
        runner.target,
    )


def _require_same_model(published: PublishedWeights, source: Checkpoint, text: str) -> None:
    different = [
        f"{field.name} {getattr(published.model, field.name)} and {getattr(source.model, field.name)}"
        for field in fields(LlamaConfig)
        if field.name not in MAY_DIFFER
        if getattr(published.model, field.name) != getattr(source.model, field.name)
    ]
    if different:
        raise ConfigError(
            f"{published.folder} and {source.path} are different models ({'; '.join(different)}): name the "
            "checkpoint that the bundle was built from as --reference."
        )
    ours, theirs = (
        TokenIds(each.chat).sequences(text, length=64, count=4) for each in (published, source)
    )
    if not np.array_equal(ours, theirs):
        raise ConfigError(
            f"the tokenizers of {published.folder} and {source.path} differ: name the checkpoint that the "
            "bundle was built from as --reference."
        )


@contextmanager
def _weights(published: PublishedWeights) -> Iterator[FloatWeights]:
    """Of the standard parameter set, which bundles for CPUs alone don't have until it is made."""
    if published.index == TENSOR_CACHE_NAME:
        yield StoredWeights(published.folder, published.table)
        return
    with TemporaryDirectory(prefix="mlc-edge-") as folder:
        published.copy_weights(Path(folder), lambda _: None)
        yield StoredWeights(Path(folder), published.table)


def _layer_errors(
    reference: FloatModel, tokens: Ids, weights: FloatWeights, published: PublishedWeights
) -> list[LayerError]:
    """Each linear layer's error on `tokens` int [1, n]."""
    formats = published.formats.by_layer(published.table)
    errors: list[LayerError] = []

    def take(name: str, inputs: Floats) -> None:
        layer = name.removesuffix(".weight")
        error = relative_error(inputs, reference.weights.rows(name), weights.rows(name))
        errors.append(LayerError(layer, formats[layer].name, error))

    hidden = reference.embed(tokens)
    for index in range(reference.layers):
        hidden = reference.layer(index, hidden, take)
    return errors


def _agreement(
    reference: FloatModel, states: Floats, runner: ModelRunner, tokens: Ids
) -> Agreement:
    length = tokens.shape[1]
    room = -(-length // PAGE_TOKENS) * PAGE_TOKENS
    runner.create_cache(CacheSizes(1, room, min(length, runner.prefill_chunk_size)))
    parts = []
    for row, hidden in zip(tokens, states, strict=True):
        logits = _bundle_logits(runner, row.tolist())
        comparison = Comparison(row[1:])
        for start, weights in reference.head_blocks():
            block = logits[:-1, start : start + len(weights)]
            comparison.add(start, hidden[:-1] @ weights.T, block)
        parts.append(comparison.result())
    return Agreement(*(np.concatenate(each) for each in zip(*map(_values, parts), strict=True)))


def _values(agreement: Agreement) -> list[np.ndarray]:
    return [getattr(agreement, field.name) for field in fields(agreement)]


def _bundle_logits(runner: ModelRunner, ids: Sequence[int]) -> Floats:
    """float32 [n, vocabulary] after each of the tokens."""
    runner.add_sequence(0)
    step = runner.prefill_chunk_size
    parts = [runner.verify(0, ids[start : start + step]) for start in range(0, len(ids), step)]
    runner.remove_sequence(0)
    return np.concatenate(parts)
