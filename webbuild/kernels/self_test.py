"""The numeric self-test of a library: known inputs, and what NumPy says must come out."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from webbuild.interleaved import interleave_scales, interleave_words
from webbuild.kernels.cpu.int4 import BLOCK_ROWS, GROUP_BYTES, int4_linear
from webbuild.kernels.linear import GROUP, VALUES_PER_WORD, ZERO_POINT, linear, q4_linear
from webbuild.models.llama_spec import LlamaConfig
from webbuild.numerics import Numerics

ROWS, DEPTH = 32, 64
PREFILL_LENGTH, TOTAL_LENGTH = 3, 4
EXPECTED_VALUES = 64
BARE = {"param_mode": "none", "effect_mode": "none"}

Floats = npt.NDArray[np.float64]


class PlainSelfTest:
    """Mixed into a library's module: one product through the kernel of unquantised layers."""

    dtype: str

    def self_test_matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        """x float32 [1, 64] by weight float32 [32, 64] to float32 [1, 32]."""
        return linear(op.astype(x, self.dtype), op.astype(weight, self.dtype), "float32")

    spec: ClassVar[dict[str, Any]] = {
        "self_test_matmul": {
            "x": nn.spec.Tensor([1, DEPTH], "float32"),
            "weight": nn.spec.Tensor([ROWS, DEPTH], "float32"),
            "$": BARE,
        }
    }


class QuantizedSelfTest:
    """Mixed into a library's module: one product through the kernel of 4-bit layers."""

    dtype: str

    def self_test_matmul(self, x: Tensor, words: Tensor, scales: Tensor) -> Tensor:
        """x float32 [1, 64], words uint32 [32, 8], scales float32 [32, 2] to float32 [1, 32]."""
        return q4_linear(op.astype(x, self.dtype), words, op.astype(scales, self.dtype), "float32")

    spec: ClassVar[dict[str, Any]] = {
        "self_test_matmul": {
            "x": nn.spec.Tensor([1, DEPTH], "float32"),
            "words": nn.spec.Tensor([ROWS, DEPTH // VALUES_PER_WORD], "uint32"),
            "scales": nn.spec.Tensor([ROWS, DEPTH // GROUP], "float32"),
            "$": BARE,
        }
    }


class InterleavedSelfTest:
    """Mixed into a library's module: one product through the kernel of interleaved 4-bit layers."""

    numerics: Numerics

    def self_test_matmul(self, x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        """x float32 [1, 64], weight uint8 [2, 2, 256], scales float32 [2, 2, 16] to float32 [1, 32]."""
        assert self.numerics.dot_product
        return int4_linear(x, weight, scales, ROWS, self.numerics.dot_product)

    spec: ClassVar[dict[str, Any]] = {
        "self_test_matmul": {
            "x": nn.spec.Tensor([1, DEPTH], "float32"),
            "weight": nn.spec.Tensor([ROWS // BLOCK_ROWS, DEPTH // GROUP, GROUP_BYTES], "uint8"),
            "scales": nn.spec.Tensor([ROWS // BLOCK_ROWS, DEPTH // GROUP, BLOCK_ROWS], "float32"),
            "$": BARE,
        }
    }


SelfTest = type[PlainSelfTest] | type[QuantizedSelfTest] | type[InterleavedSelfTest]


def self_test_for(numerics: Numerics) -> SelfTest:
    """The mixin that tests the linear layers of a library."""
    if not numerics.quantization.startswith("q4"):
        return PlainSelfTest
    return InterleavedSelfTest if numerics.dot_product else QuantizedSelfTest


def self_test_vectors(config: LlamaConfig, numerics: Numerics) -> dict[str, Any]:
    """The `self_test` entry of a library's metadata; tolerances suit the kernels' float type."""
    tolerance = {"float32": 1e-4, "float16": 2e-2}[numerics.dtype]
    bounds = {"atol": tolerance, "rtol": tolerance}
    expected = attention_reference(config)[:EXPECTED_VALUES]
    return {
        "matmul": {**_matmul_vectors(numerics), **bounds},
        "attention": {
            "prefill_length": PREFILL_LENGTH,
            "expected_decode": _rounded(expected),
            **bounds,
        },
    }


def _matmul_vectors(numerics: Numerics) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    # Multiples of 1/16: exact in float16 too.
    x = generator.integers(-16, 17, (1, DEPTH)) / 16
    if not numerics.quantization.startswith("q4"):
        weight = generator.integers(-16, 17, (ROWS, DEPTH)) / 16
        return {"inputs": [_entry(x), _entry(weight)], "expected": _rounded((x @ weight.T)[0])}
    values = generator.integers(0, 15, (ROWS, DEPTH))
    scales = generator.integers(1, 17, (ROWS, DEPTH // GROUP)) / 16
    dequantized = (values - ZERO_POINT) * np.repeat(scales, GROUP, axis=1)
    shifts = 4 * np.arange(VALUES_PER_WORD)
    words = (values.reshape(ROWS, -1, VALUES_PER_WORD) << shifts).sum(axis=-1)
    seen = x
    packed = {"shape": list(words.shape), "dtype": "uint32", "data": words.ravel().tolist()}
    if numerics.dot_product:
        seen = _int8_rounded(x)
        order = interleave_words(words.astype(np.uint32))
        packed = {"shape": list(order.shape), "dtype": "uint8", "data": order.ravel().tolist()}
        scales = interleave_scales(scales)
    return {
        "inputs": [_entry(x), packed, _entry(scales)],
        "expected": _rounded((seen @ dequantized.T)[0]),
    }


def _int8_rounded(x: Floats) -> Floats:
    """What is left of activations after int8 quantisation in groups."""
    grouped = x.reshape(-1, GROUP)
    steps = np.abs(grouped).max(axis=1, keepdims=True) / 127
    rounded: Floats = (np.rint(grouped / steps) * steps).reshape(x.shape)
    return rounded


def _entry(array: Floats) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": "float32", "data": array.ravel().tolist()}


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 6) for value in values]


def attention_reference(config: LlamaConfig) -> Floats:
    """Attention output of the last of 4 tokens, [hq * d], in NumPy float64.

    Element i of the tokens' fused qkv, [4, (hq + 2 hkv) * d] flattened, is sin(0.37 i) / 2.
    """
    heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    count = TOTAL_LENGTH * (heads + 2 * kv_heads) * width
    qkv = (np.sin(0.37 * np.arange(count)) * 0.5).reshape(TOTAL_LENGTH, -1, width)
    frequencies = rope_frequencies(config)
    query = _rotate(qkv[-1:, :heads], np.array([TOTAL_LENGTH - 1]), frequencies)[0]
    keys = _rotate(qkv[:, heads : heads + kv_heads], np.arange(TOTAL_LENGTH), frequencies)
    values = qkv[:, heads + kv_heads :]
    outputs = []
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = keys[:, shared] @ query[head] / np.sqrt(width)
        weights = np.exp(scores - scores.max())
        outputs.append(weights @ values[:, shared] / weights.sum())
    return np.concatenate(outputs)


def _rotate(x: Floats, positions: npt.NDArray[np.int64], frequencies: Floats) -> Floats:
    """Rotary embedding (https://arxiv.org/abs/2104.09864) of x [n, h, d], halves rotated."""
    angles = positions[:, None, None] * frequencies
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rope_frequencies(config: LlamaConfig) -> Floats:
    """Inverse frequencies [d / 2], with Llama 3's scaling of long wavelengths where it is asked for."""
    width = config.head_dim
    frequencies = config.rope_theta ** (-np.arange(0, width, 2) / width)
    scaling = config.rope_scaling
    if not scaling:
        return frequencies
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * (smooth + (1 - smooth) / scaling["factor"])
