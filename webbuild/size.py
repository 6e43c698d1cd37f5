"""`--size`: the format of each weight by what it costs the model, measured, and how many bytes there are."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from mlc_edge.errors import ConfigError
from mlc_edge.weight_index import ALIGNMENT
from webbuild.architectures import float_model
from webbuild.calibration.corpus import TokenIds
from webbuild.calibration.statistics import Statistics
from webbuild.checkpoint import Checkpoint
from webbuild.effort import CALIBRATION_TOKENS, Rounding, open_float
from webbuild.interleaved import interleaved_form
from webbuild.models.float_weights import CheckpointWeights
from webbuild.models.spec import ParameterSpec
from webbuild.parallel import worker_threads
from webbuild.quality.sensitivity import measure_sensitivities
from webbuild.quantization.budget import Choice, fit
from webbuild.quantization.formats import Q4, Q4M, Q8, TensorFormat, WeightFormats
from webbuild.quantization.groups import Floats
from webbuild.quantization.quantizers import MeanSquares, SearchQuantizer

CANDIDATES = (Q4, Q4M, Q8)
# On which sensitivities are measured: each weight adds a copy of them to the pass.
TOKENS = 128
# Rows that say how much nearer one format is than another.
SAMPLE_ROWS = 256


def formats_for_size(
    source: Checkpoint,
    formats: WeightFormats,
    *,
    size: int,
    rounding: Rounding,
    interleaved: Collection[bool],
    settled: Sequence[str] = (),
) -> WeightFormats:
    """Formats whose parameter set has at most `size` bytes; weights named in `settled` keep theirs.

    `interleaved` has True for the parameter set of CPUs, False for the standard one: both keep to the size.
    Raises ConfigError if that is too little, CheckpointError if the tokenizer can't be used.
    """
    free = [spec for spec in source.table if spec.quantized and spec.name not in settled]
    sizes = {spec.name: _sizes(spec, formats, interleaved) for spec in free}
    fixed = sum(
        _bytes(spec, formats, interleaved) for spec in source.table if spec.name not in sizes
    )
    # Before minutes of work: whether there is a way at all.
    fit(
        {name: [Choice(Q4, each[Q4.name], 0)] for name, each in sizes.items()},
        fixed=fixed,
        size=size,
    )
    errors = _errors(source, formats, rounding, free)
    choices = {
        name: [
            Choice(format, each[format.name], errors[name][format.name]) for format in CANDIDATES
        ]
        for name, each in sizes.items()
    }
    return _with(formats, fit(choices, fixed=fixed, size=size))


def _with(formats: WeightFormats, chosen: dict[str, TensorFormat]) -> WeightFormats:
    exceptions = {**formats.exceptions, **chosen}
    linear = formats.quantization.linear
    kept = {name: format for name, format in exceptions.items() if format != linear}
    return replace(formats, exceptions=kept)


def _sizes(
    spec: ParameterSpec, formats: WeightFormats, interleaved: Collection[bool]
) -> dict[str, int]:
    return {
        format.name: _bytes(spec, replace(formats, exceptions={spec.name: format}), interleaved)
        for format in CANDIDATES
    }


def _bytes(spec: ParameterSpec, formats: WeightFormats, interleaved: Collection[bool]) -> int:
    """In the largest of the parameter sets, which may begin each tensor at a multiple of some bytes."""
    sizes = {False: 0, True: 0}
    for tensor in formats.output_tensors(spec):
        shape, dtype = interleaved_form(tensor, formats.of(spec))
        sizes[False] += tensor.stored_bytes
        sizes[True] += math.prod(shape) * np.dtype(dtype).itemsize + ALIGNMENT - 1
    return max(sizes[is_interleaved] for is_interleaved in interleaved)


def _errors(
    source: Checkpoint, formats: WeightFormats, rounding: Rounding, free: Sequence[ParameterSpec]
) -> dict[str, dict[str, float]]:
    """By weight and format: the KL that rounding it alone costs, in nats a token.

    Measured in 4 bits; of other formats, by how much smaller their squared errors are.
    """
    tokens = TokenIds(source.chat).calibration(
        rounding.calibration,
        context=source.model.context_length,
        tokens=CALIBRATION_TOKENS["default"],
    )
    with worker_threads() as threads:
        statistics = Statistics(open_float(source), tokens, threads, products=False)

        def mean_squares(spec: ParameterSpec) -> Floats | None:
            return None if spec.vocabulary else statistics.of(spec.name)

        quantizer = SearchQuantizer(formats.quantization, threads, mean_squares)
        trial = _Trial(source, quantizer, mean_squares, free)
        sensitivities = measure_sensitivities(
            lambda weights: float_model(source.model.model_type)(source.model, weights),
            trial.weights,
            tokens[:1, :TOKENS],
            trial.round,
            threads,
        )
    errors = {
        spec.name: {
            name: sensitivities[spec.name] * share
            for name, share in trial.shares[spec.name].items()
        }
        for spec in free
    }
    for name, each in errors.items():
        if not all(math.isfinite(error) for error in each.values()):
            raise ConfigError(
                f"--size can't measure what {name} costs: on the calibration text the model computes what "
                "float32 can't hold. Give another --calibration text, or formats with --quant-rule."
            )
    return errors


class _Trial:
    """Rounds weights in 4 bits, and notes the share of the squared error that other formats leave."""

    def __init__(
        self,
        source: Checkpoint,
        quantizer: SearchQuantizer,
        mean_squares: MeanSquares,
        free: Sequence[ParameterSpec],
    ) -> None:
        self.weights = CheckpointWeights(source.table, source.tensors)
        self.shares: dict[str, dict[str, float]] = {}
        self._source = source
        self._quantizer = quantizer
        self._mean_squares = mean_squares
        self._specs = {spec.name: spec for spec in free}

    def round(self, name: str) -> Floats:
        """The weight `name` in 4 bits; as it is if its format is settled."""
        values = self.weights.rows(name)
        spec = self._specs.get(name)
        if spec is None:
            return values
        sample = values[:: -(-len(values) // SAMPLE_ROWS)]
        errors = {format.name: self._error(spec, format, sample) for format in CANDIDATES}
        worst = errors[Q4.name] or 1.0
        self.shares[name] = {key: error / worst for key, error in errors.items()}
        if self._is_exact(spec, Q4):
            return values
        groups = self._quantizer.quantize(spec, Q4, values, 0)
        return groups.values(values.shape[1])

    def _error(self, spec: ParameterSpec, format: TensorFormat, rows: Floats) -> float:
        if self._is_exact(spec, format):
            return 0.0
        rest = rows - self._quantizer.quantize(spec, format, rows, 0).values(rows.shape[1])
        squares = self._mean_squares(spec)
        return float(
            np.square(rest).sum() if squares is None else (np.square(rest) @ squares).sum()
        )

    def _is_exact(self, spec: ParameterSpec, format: TensorFormat) -> bool:
        """Whether the checkpoint has the weight in this format already."""
        found = {self._source.tensors[name].group_format for name in spec.sources}
        return found == {format}
