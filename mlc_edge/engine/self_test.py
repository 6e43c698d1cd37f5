"""Refuses a device or a library that computes wrong before it can write nonsense."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import EngineError
from mlc_edge.model_runner import ModelRunner

# No running sequence has a negative number.
SEQUENCE = -1


def self_test(runner: ModelRunner) -> None:
    """Compute the vectors of the library's metadata; raises EngineError internal if one differs."""
    vectors = runner.metadata["self_test"]
    matmul, attention = vectors["matmul"], vectors["attention"]
    inputs = [
        np.array(entry["data"], entry["dtype"]).reshape(entry["shape"])
        for entry in matmul["inputs"]
    ]
    product = runner.call("self_test_matmul", *inputs).numpy()
    _compare("a matrix product", product, matmul["expected"], matmul)
    _compare("attention", _attend(runner), attention["expected_decode"], attention)


def _attend(runner: ModelRunner) -> npt.NDArray[np.float32]:
    """Element i of all tokens is sin(0.37 i) / 2; the last token comes in a step of its own."""
    shape = runner.metadata["kv_cache"]
    prefill = runner.metadata["self_test"]["attention"]["prefill_length"]
    heads = shape["num_attention_heads"] + 2 * shape["num_key_value_heads"]
    width = heads * shape["head_dim"]
    elements = np.arange((prefill + 1) * width)
    qkv = (np.sin(0.37 * elements) * 0.5).astype(np.float32).reshape(1, -1, width)
    runner.add_sequence(SEQUENCE)
    try:
        runner.attend(SEQUENCE, qkv[:, :prefill])
        return runner.attend(SEQUENCE, qkv[:, prefill:])
    finally:
        runner.remove_sequence(SEQUENCE)


def _compare(
    what: str,
    found: npt.NDArray[np.float32],
    expected: list[float],
    bounds: Mapping[str, float],
) -> None:
    values = found.ravel()[: len(expected)]
    good = np.isclose(values, expected, rtol=bounds["rtol"], atol=bounds["atol"])
    if good.all():
        return
    wrong = int(np.flatnonzero(~good)[0])
    raise EngineError(
        "internal",
        f"This device computes wrong results: value {wrong} of {what} is {values[wrong]}, "
        f"not {expected[wrong]}.",
        "Choose another target with --target, or build the bundle again.",
    )
