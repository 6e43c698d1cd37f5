"""Which weight gets which format: the quantisation's, the file's own, and what rules ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlc_edge.errors import ConfigError
from webbuild.models.spec import ParameterSpec, parameter_count
from webbuild.quantization.formats import (
    Q4,
    Q8,
    TENSOR_FORMATS,
    Quantization,
    TensorFormat,
    WeightFormats,
)

# Below this, a 4-bit vocabulary costs more of the model than its bytes are worth.
SMALL_MODEL = 3_000_000_000
HEAD = "lm_head"


@dataclass(frozen=True)
class QuantRule:
    """Weights whose layer's name, or the end of it, matches `pattern` (* and ? as in shells)."""

    pattern: str
    format: TensorFormat

    @classmethod
    def parse(cls, text: str) -> "QuantRule":
        """Read "pattern=format"; raises ConfigError."""
        pattern, equals, name = text.partition("=")
        if not (pattern and equals and name in TENSOR_FORMATS):
            raise ConfigError(
                f"--quant-rule {text!r}: write a layer's name, or a pattern of * and ?, then = and one of "
                f"{', '.join(TENSOR_FORMATS)}, as in lm_head=q8 or '*.down_proj=q4m'."
            )
        return cls(pattern, TENSOR_FORMATS[name])

    def matches(self, layer: str) -> bool:
        """Whether it is meant for the layer of this name."""
        return fnmatchcase(layer, self.pattern) or fnmatchcase(layer, f"*.{self.pattern}")


def choose_formats(
    table: Sequence[ParameterSpec],
    quantization: Quantization,
    *,
    native: Mapping[str, TensorFormat] | None = None,
    rules: Sequence[QuantRule] = (),
    mlc_compatible: bool = False,
) -> WeightFormats:
    """Formats of `table`'s weights; later ones prevail: quantisation, `native` by parameter name, `rules`.

    The vocabulary's tables of small models are in 8 bits where others are in 4, unless the bundle has to be
    `mlc_compatible`: then everything is in a format of MLC's. Raises ConfigError for a rule that no
    weight matches, or that contradicts `mlc_compatible`.
    """
    chosen: dict[str, TensorFormat] = {}
    is_small = parameter_count(table) < SMALL_MODEL
    for spec in table:
        if spec.vocabulary and is_small and quantization.linear.bits == Q4.bits:
            chosen[spec.name] = Q8
    chosen |= native or {}
    if mlc_compatible:
        chosen = {}
        _require_mlc(quantization, rules)
    for rule in rules:
        chosen |= {name: rule.format for name in matching(table, rule)}
    kept = {name: format for name, format in chosen.items() if format != quantization.linear}
    return WeightFormats(quantization, kept)


def _require_mlc(quantization: Quantization, rules: Sequence[QuantRule]) -> None:
    if rules:
        raise ConfigError(
            "--quant-rule and --mlc-compatible exclude each other: leave one of them out."
        )
    if quantization.linear.bits and quantization.linear != Q4:
        raise ConfigError(
            f"--quant {quantization.name} is no format of MLC's: leave --mlc-compatible out, or use q4f16_1, "
            "q4f32_1, q0f16 or q0f32."
        )


def matching(table: Sequence[ParameterSpec], rule: QuantRule) -> list[str]:
    """Names of the parameters that a rule is for; raises ConfigError if there are none."""
    layers = {spec.name.removesuffix(".weight"): spec for spec in table if spec.quantized}
    found = [spec.name for layer, spec in layers.items() if rule.matches(layer)]
    if not found and rule.pattern == HEAD:
        # Tied embeddings are the head, too.
        found = [spec.name for spec in table if spec.vocabulary]
    if found:
        return found
    kinds = sorted({layer.rpartition(".")[2] for layer in layers})
    raise ConfigError(
        f"--quant-rule {rule.pattern}={rule.format.name}: the model has no such weight; it has "
        f"{', '.join(kinds)}, and names such as {next(iter(layers))}."
    )
