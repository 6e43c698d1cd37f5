"""Layers over weights as they are stored, against values read one at a time from the format's description."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend.nn import spec
from tvm.target import Target

from mlc_edge.cpu import host_cpu
from tests.build.mlc_reader import dequantize
from webbuild.interleaved import interleave_bytes, interleave_nibbles, interleave_scales
from webbuild.kernels.cpu.kernels import CpuKernels
from webbuild.layers import Embedding
from webbuild.numerics import Numerics
from webbuild.quantization.formats import Q4, Q4M, Q8, TensorFormat
from webbuild.targets import CPU_PROFILES

# The last group of a row and the last block of rows aren't full; no two sizes are equal.
ROWS, COLUMNS, GROUPS = 37, 70, 3
IDS = np.array([36, 0, 17, 17, 31], np.int32)
CPU = host_cpu()
PROFILE = next(p for p in CPU_PROFILES if set(p.features) <= CPU.features | {CPU.arch})


def random_weight(format: TensorFormat) -> tuple[list[np.ndarray], np.ndarray]:
    """A table's tensors in MLC's order, and its values [ROWS, COLUMNS]."""
    random = np.random.default_rng(3)
    words = random.integers(0, 1 << 32, (ROWS, GROUPS * format.words_per_group), np.uint32)
    scales = random.uniform(-0.1, 0.1, (ROWS, GROUPS)).astype(np.float16)
    minimums = random.uniform(-1, 1, (ROWS, GROUPS)).astype(np.float16)
    floats = [scales, minimums] if format.has_minimums else [scales]
    return [words, *floats], dequantize(words, scales, COLUMNS, *floats[1:])


def run(format: TensorFormat, stored: list[np.ndarray], dot_product: str | None) -> list[Any]:
    """The rows of IDS, and the products of as many inputs with the table."""
    numerics = Numerics(formats={"": format}, kernels=CpuKernels("float16", dot_product))
    methods = {
        "lookup": {"ids": spec.Tensor(IDS.shape, "int32")},
        "forward": {"x": spec.Tensor((len(IDS), COLUMNS), "float32")},
    }
    module, _ = Embedding(ROWS, COLUMNS, numerics).export_tvm(methods)
    built = tvm.compile(module, target=Target(PROFILE.tvm_target))
    machine = relax.VirtualMachine(built, tvm.cpu())
    parameters = [tvm.runtime.tensor(each) for each in stored]
    inputs = (IDS, activations())
    return [
        machine[name](tvm.runtime.tensor(each), *parameters).numpy()
        for name, each in zip(methods, inputs, strict=True)
    ]


def activations() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((len(IDS), COLUMNS)).astype(np.float32)


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_values_are_those_of_the_description(format: TensorFormat):
    stored, values = random_weight(format)
    rows, products = run(format, stored, None)
    np.testing.assert_array_equal(rows, values[IDS])
    expected = activations().astype(np.float64) @ values.T
    np.testing.assert_allclose(products, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_interleaved_values_are_the_same(format: TensorFormat):
    (words, *floats), values = random_weight(format)
    interleave = interleave_bytes if format.bits == 8 else interleave_nibbles
    stored = [interleave(words), *map(interleave_scales, floats)]
    rows, products = run(format, stored, PROFILE.dot_product)
    # A compiler may keep the product's digits for the sum.
    np.testing.assert_allclose(rows, values[IDS], rtol=1e-6, atol=1e-7)
    x = np.zeros((len(IDS), GROUPS, 32))
    x.reshape(len(IDS), -1)[:, :COLUMNS] = activations()
    # Beside 8 bits activations have a second int8 number, a 254th of the first one's steps.
    steps = np.abs(x).max(axis=2, keepdims=True) / (127 * 254 if format.bits == 8 else 127)
    rounded = (np.rint(x / steps) * steps).reshape(len(IDS), -1)[:, :COLUMNS]
    np.testing.assert_allclose(products, rounded @ values.T, rtol=1e-4, atol=1e-3)
