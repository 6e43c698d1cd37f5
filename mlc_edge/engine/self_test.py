"""Refuses a device or a library that computes wrong before it can write nonsense.

A library offers its kernels one by one, on the model's own parameters (`self_test` in its metadata); what
they must give is computed here in float64, from the weights as they are stored. Damaged ones are for
hashes to find.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.engine.stored_rows import stored_rows
from mlc_edge.errors import EngineError
from mlc_edge.model_runner import ModelRunner

# No running sequence has a negative number.
SEQUENCE = -1
# Outputs of a product that are compared: the first, the last, and what lies evenly between.
COMPARED = 16
# Half precision has nothing much smaller between 0 and 1, once it is rounded.
SMALLEST_SIGMOID = 1e-3
# How much x / (1 + e^-x) changes at most by what x changes.
STEEPEST_SILU = 1.1

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def self_test(runner: ModelRunner) -> None:
    """Compare what the library computes; raises EngineError internal if something differs."""
    test = runner.metadata["self_test"]
    for run in test["runs"]:
        _Run(runner, run).compare()
    _compare_embedding(runner)
    _compare_attention(runner)
    _compare_steps(runner)


def probe_input(rows: int, width: int) -> Floats:
    """Inputs [rows, width] of the self-test.

    Multiples of 1/128 with 127/128 as the largest of each 32: exact as float16, and in int8 by groups of 32.
    """
    row, column = np.ogrid[:rows, :width]
    values = (89 * row + 37 * column + 61) % 255 - 127
    return np.where(column % 32 == 0, 127, values) / 128


def spread(count: int, wanted: int = COMPARED) -> list[int]:
    """Up to `wanted` numbers below `count`: 0, count - 1, and what lies evenly between."""
    kept = min(count, wanted)
    return [index * (count - 1) // max(kept - 1, 1) for index in range(kept)]


class _Run:
    """One call of a function that gives the results of several layers."""

    def __init__(self, runner: ModelRunner, run: Mapping[str, Any]) -> None:
        self._runner, self._run = runner, run
        self._test = runner.metadata["self_test"]
        rows = int(np.prod(run["lead"]))
        self._inputs = [probe_input(rows, width) for width in self._test["inputs"]]

    def compare(self) -> None:
        dtype = self._runner.metadata["dtype"]
        lead = tuple(self._run["lead"])
        arguments = [x.astype(dtype).reshape(*lead, -1) for x in self._inputs]
        results = self._runner.call_with_parameters(self._run["function"], *arguments)
        checks = {"linear": self._linear, "rms_norm": self._norm, "gated_silu": self._gated}
        before: Floats = np.empty(0)
        for index, result in zip(self._run["results"], results, strict=True):
            described = self._test["results"][index]
            found = result.reshape(len(self._inputs[0]), -1).astype(np.float64)
            checks[described["kind"]](described, found, before)
            before = found

    def _linear(self, described: Mapping[str, Any], found: Floats, _: Floats) -> None:
        x = self._inputs[described["input"]]
        if norm := described.get("norm"):
            x = self._normalised(norm, x)
        if described.get("gated"):
            self._fused_gated(described, x, found)
            return
        columns = spread(described["out_features"])
        expected, magnitude = self._product(described, x, columns)
        rounded = np.abs(expected)
        if described["residual"]:
            residual = self._inputs[0][:, columns]
            expected, magnitude = expected + residual, magnitude + np.abs(residual)
            # The product is rounded before the residual is added to it, which may leave much less.
            rounded += np.abs(expected)
        tolerance = self._test["tolerance"]
        # Logits are float32 whatever the other results are.
        value = 0 if described["logits"] else tolerance["value"]
        bounds = tolerance["least"] + tolerance["sum"] * magnitude + value * rounded
        self._check(described["parameters"][0], found[:, columns], expected, bounds)

    def _fused_gated(self, described: Mapping[str, Any], x: Floats, found: Floats) -> None:
        """The activation of a product's halves, gate and up, of which there is no result."""
        width = described["out_features"] // 2
        columns = spread(width)
        gate, gates = self._product(described, x, columns)
        up, ups = self._product(described, x, [width + column for column in columns])
        expected, bounds = self._activation(gate, up)
        slack = STEEPEST_SILU * gates * np.abs(up) + np.abs(_silu(gate)) * ups
        bounds += self._test["tolerance"]["sum"] * slack
        self._check(described["parameters"][0], found[:, columns], expected, bounds)

    def _product(
        self, described: Mapping[str, Any], x: Floats, columns: list[int]
    ) -> tuple[Floats, Floats]:
        """x times those rows of a weight, [rows, columns], and the sums of the products' magnitudes."""
        weight = stored_rows(self._runner.parameters, described, columns)
        return x @ weight.T, np.abs(x) @ np.abs(weight).T

    def _norm(self, described: Mapping[str, Any], found: Floats, _: Floats) -> None:
        expected = self._normalised(described, self._inputs[described["input"]])
        bounds = _rounding(self._test["tolerance"], expected)
        self._check(described["parameters"][0], found, expected, bounds)

    def _normalised(self, described: Mapping[str, Any], x: Floats) -> Floats:
        (name,) = described["parameters"]
        weight = self._runner.parameters.rows(name, range(x.shape[1])).astype(np.float64)
        mean = (x**2).mean(axis=1, keepdims=True)
        expected: Floats = x / np.sqrt(mean + described["epsilon"]) * weight
        return expected

    def _gated(self, _: Mapping[str, Any], found: Floats, before: Floats) -> None:
        """The activation of the result before it, gate and up."""
        self._check("a gated activation", found, *self._activation(*np.split(before, 2, axis=1)))

    def _activation(self, gate: Floats, up: Floats) -> tuple[Floats, Floats]:
        """What it is, and what it may differ by."""
        expected = _silu(gate) * up
        magnitude = np.abs(expected) + SMALLEST_SIGMOID * np.abs(gate * up)
        tolerance = self._test["tolerance"]
        return expected, tolerance["least"] + tolerance["activation"] * magnitude

    def _check(self, what: str, found: Floats, expected: Floats, bounds: Floats) -> None:
        _compare(f"{what} for {len(found)} rows", found, expected, bounds)


def _compare_embedding(runner: ModelRunner) -> None:
    test = runner.metadata["self_test"]
    table = test["embedding"]
    ids = spread(table["out_features"], table["rows"])
    expected = stored_rows(runner.parameters, table, ids)
    bounds = _rounding(test["tolerance"], expected)
    _compare("embeddings", runner.embed(ids), expected, bounds)


def _compare_attention(runner: ModelRunner) -> None:
    """Element i of all tokens is sin(0.37 i) / 2; the last token comes in a step of its own."""
    test = runner.metadata["self_test"]
    shape, prefill = runner.metadata["kv_cache"], test["attention"]["prefill_length"]
    heads = shape["num_attention_heads"] + 2 * shape["num_key_value_heads"]
    width = heads * shape["head_dim"]
    elements = np.arange((prefill + 1) * width)
    qkv = (np.sin(0.37 * elements) * 0.5).astype(runner.metadata["dtype"]).reshape(1, -1, width)

    def attend() -> Array:
        runner.attend(SEQUENCE, qkv[:, :prefill])
        return runner.attend(SEQUENCE, qkv[:, prefill:])

    expected = np.array(test["attention"]["expected_decode"])
    found = _in_a_sequence(runner, attend).ravel()[test["attention"]["places"]]
    bounds = np.full(expected.shape, test["tolerance"]["attention"])
    _compare("attention", found, expected, bounds)


def _compare_steps(runner: ModelRunner) -> None:
    """A prompt at once, and with its last token in a step of its own: the same logits."""
    test = runner.metadata["self_test"]
    vocabulary = test["embedding"]["out_features"]
    tokens = [(7 * n * n + 3) % vocabulary for n in range(test["prompt_length"])]

    def at_once() -> Array:
        return runner.prefill([SEQUENCE], [tokens])[0]

    def in_two_steps() -> Array:
        if tokens[1:]:
            runner.prefill([SEQUENCE], [tokens[:-1]])
        return runner.decode([SEQUENCE], tokens[-1:])[0]

    one, two = (_in_a_sequence(runner, step).astype(np.float64) for step in (at_once, in_two_steps))
    difference, size = (float(np.sqrt(np.mean(x**2))) for x in (one - two, one))
    if not difference <= test["tolerance"]["logits"] * size:
        raise _wrong(
            f"logits of a prompt at once and in two steps differ by {difference:.3g}, "
            f"and are {size:.3g} large"
        )


def _silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def _rounding(tolerance: Mapping[str, float], expected: Floats) -> Floats:
    """What rounding to the library's float type may change."""
    bounds: Floats = tolerance["least"] + tolerance["value"] * np.abs(expected)
    return bounds


def _in_a_sequence(runner: ModelRunner, compute: Callable[[], Array]) -> Array:
    runner.add_sequence(SEQUENCE)
    try:
        return compute()
    finally:
        runner.remove_sequence(SEQUENCE)


def _compare(what: str, found: Array, expected: Floats, bounds: Floats) -> None:
    # NaN is not below any bound.
    good = np.abs(found - expected) <= bounds
    if good.all():
        return
    place = tuple(int(index) for index in np.argwhere(~good)[0])
    raise _wrong(f"value {place} of {what} is {found[place]:.6g}, not {expected[place]:.6g}")


def _wrong(problem: str) -> EngineError:
    return EngineError(
        "internal",
        f"This device computes wrong results: {problem}.",
        "Choose another target with --target, or build the bundle again.",
    )
