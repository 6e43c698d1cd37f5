"""How much work rounding is worth: the quantiser of each effort, and the text that it learns from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from mlc_edge.errors import CheckpointError, ConfigError
from webbuild.architectures import float_model
from webbuild.calibration.corpus import FOLDER, HELD_OUT, Ids, TokenIds, read_text, text_hash
from webbuild.calibration.statistics import Statistics
from webbuild.checkpoint import Checkpoint
from webbuild.models.float_weights import CheckpointWeights
from webbuild.models.llama_float import FloatModel
from webbuild.models.spec import ParameterSpec
from webbuild.parallel import worker_threads
from webbuild.quality.divergence import Agreement
from webbuild.quality.measure import agreement
from webbuild.quality.stored_weights import StoredWeights
from webbuild.quantization.feedback import FeedbackQuantizer
from webbuild.quantization.formats import WeightFormats
from webbuild.quantization.groups import Floats, Quantizer
from webbuild.quantization.quantizers import SearchQuantizer

Effort = Literal["fast", "default", "best"]
# At most; the project's own text has 4,000 to 5,000.
CALIBRATION_TOKENS = {"default": 2048, "best": 8192}
# A few hundred words; fewer tokens are taken with a warning.
ENOUGH_TOKENS = 256
# Enough to see a model that was damaged, in a second for 100M weights.
MEASURED_TOKENS = 256
# Error feedback goes from column to column: NumPy is fast at them if they have many rows.
ROUNDING_BYTES = {"fast": 1 << 20, "default": 1 << 20, "best": 8 << 20}


@dataclass(frozen=True)
class Rounding:
    """What `--quant-effort` and `--calibration` ask for."""

    effort: Effort = "default"
    calibration: Path | None = None

    @property
    def text_hash(self) -> str | None:
        """SHA-256 of the calibration text; None if the effort needs none. Raises ConfigError."""
        return None if self.effort == "fast" else text_hash(self.calibration)

    @property
    def block_bytes(self) -> int:
        """Of floats that are rounded at a time."""
        return ROUNDING_BYTES[self.effort]


def parse_effort(name: str) -> Effort:
    """The effort called `name`; raises ConfigError."""
    for effort in get_args(Effort):
        if name == effort:
            return effort
    raise ConfigError(
        f"--quant-effort {name!r}: use one of {', '.join(get_args(Effort))}; best takes some minutes more."
    )


def open_float(source: Checkpoint) -> FloatModel:
    """The checkpoint as a model in floats."""
    model: FloatModel = float_model(source.model.model_type)(
        source.model, CheckpointWeights(source.table, source.tensors)
    )
    return model


@contextmanager
def open_quantizer(
    rounding: Rounding,
    source: Checkpoint,
    formats: WeightFormats,
    warn: Callable[[str], None],
) -> Iterator[Quantizer]:
    """The effort's quantiser; where the model can't read the project's own text, one without statistics."""
    with worker_threads() as threads:
        tokens = _calibration_tokens(rounding, source, warn)
        if tokens is None:
            yield SearchQuantizer(formats.quantization, threads)
            return
        best = rounding.effort == "best"
        model = open_float(source)
        statistics = Statistics(model, tokens, threads, products=best)

        @lru_cache(maxsize=1)
        def found(name: str) -> Floats | None:
            inputs = statistics.of(name)
            if inputs is None:
                warn(
                    f"{name} is rounded without the calibration text, which brings it no finite inputs"
                )
            return inputs

        def inputs(spec: ParameterSpec) -> Floats | None:
            # Rows of 8-bit vocabularies are near enough, and the head's inputs cost a whole forward pass.
            if spec.vocabulary and (formats.of(spec).bits == 8 or spec.name != model.head):
                return None
            return found(spec.name)

        make = FeedbackQuantizer if best else SearchQuantizer
        yield make(formats.quantization, threads, inputs)


def check_calibration(rounding: Rounding, source: Checkpoint, warn: Callable[[str], None]) -> None:
    """Raise ConfigError for a text that is given and says too little; warn of one that says not much."""
    if rounding.calibration:
        tokens = _calibration_tokens(rounding, source, warn)
        if tokens is not None and tokens.size < ENOUGH_TOKENS:
            warn(
                f"--calibration {rounding.calibration} has {tokens.size} tokens: a few hundred words show "
                "better what the model reads"
            )


def _calibration_tokens(
    rounding: Rounding, source: Checkpoint, warn: Callable[[str], None]
) -> Ids | None:
    if rounding.effort == "fast":
        return None
    try:
        return TokenIds(source.chat).calibration(
            rounding.calibration,
            context=source.model.context_length,
            tokens=CALIBRATION_TOKENS[rounding.effort],
        )
    except (CheckpointError, ConfigError) as error:
        if rounding.calibration:
            raise
        warn(f"weights are rounded without a calibration text: {error}")
        return None


def measure_quality(source: Checkpoint, folder: Path) -> Agreement | None:
    """The checkpoint beside the standard parameter set in `folder`, on a short text of its own.

    None if the model's tokenizer can't read it.
    """
    try:
        length = min(MEASURED_TOKENS, source.model.context_length)
        text = read_text(FOLDER / HELD_OUT)
        tokens = TokenIds(source.chat).sequences(text, length=length, count=1)
    except (CheckpointError, ConfigError):
        return None
    reference = open_float(source)
    rounded = float_model(source.model.model_type)(
        source.model, StoredWeights(folder, source.table)
    )
    with worker_threads() as threads:
        return agreement(reference, rounded, tokens, threads)
