"""CPU kernels against NumPy: odd shapes, extremes, and the same bits in every batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import Target

from mlc_edge.cpu import host_cpu
from webbuild.interleaved import interleave_bytes, interleave_nibbles, interleave_scales
from webbuild.kernels.cpu.elementwise import gated_silu_program, rms_norm_program
from webbuild.kernels.cpu.grouped import groups_of, matmul_program, quantize_program
from webbuild.quantization.formats import Q4, Q4M, Q8, TensorFormat
from webbuild.targets import CPU_PROFILES, TargetProfile

CPU = host_cpu()
RUNNABLE = [p for p in CPU_PROFILES if set(p.features) <= CPU.features | {CPU.arch}]
random = np.random.default_rng(5)
Array = np.ndarray
Compile = Callable[[tirx.PrimFunc], Callable[..., None]]


@pytest.fixture(params=RUNNABLE, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> TargetProfile:
    return request.param


@pytest.fixture
def compile_program(profile: TargetProfile) -> Compile:
    def compile_one(program: tirx.PrimFunc) -> Callable[..., None]:
        module = tvm.IRModule({"main": program.with_attr("global_symbol", "main")})
        function = tvm.compile(module, target=Target(profile.tvm_target))["main"]

        def call(*arguments: Any) -> None:
            """Calls with arrays, which get what the program wrote."""
            tensors = [tvm.runtime.tensor(a) if isinstance(a, Array) else a for a in arguments]
            function(*tensors)
            for array, tensor in zip(arguments, tensors, strict=True):
                if isinstance(array, Array):
                    array[...] = tensor.numpy()

        return call

    return compile_one


def floats(*shape: int) -> Array:
    return random.standard_normal(shape).astype(np.float32)


TERMS = {"q4": 1, "q4m": 1, "q8": 2}
FORMATS = pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)


def quantized(x: Array, format: TensorFormat) -> tuple[Array, Array, Array]:
    """Values int8 [m, G * terms * 32], scales [m, G], corrections [m, G], one group at a time."""
    rows, depth = x.shape
    groups, terms = groups_of(depth), TERMS[format.name]
    padded = np.zeros((rows, groups * 32), np.float32)
    padded[:, :depth] = x
    values = np.zeros((rows, groups, terms, 32), np.int8)
    scales = np.zeros((rows, groups), np.float32)
    for row, group in np.ndindex(rows, groups):
        part = padded[row, group * 32 : group * 32 + 32]
        largest = np.abs(part).max()
        scales[row, group] = largest / (127 * 254 ** (terms - 1))
        if largest:
            rest = part * (np.float32(127) / largest)
            for term in range(terms):
                values[row, group, term] = np.rint(rest)
                rest = (rest - np.rint(rest)) * np.float32(254)
    sums = whole_values(values).sum(axis=2, dtype=np.int32)
    flat = values.reshape(rows, groups * terms * 32)
    if format.has_minimums:
        return flat, scales, sums.astype(np.float32) * scales
    return flat, scales, {4: -7, 8: -128}[format.bits] * sums


def whole_values(values: Array) -> Array:
    """int8 [m, G, terms, 32] to int64 [m, G, 32]: each term counts 254 times the next one."""
    terms = values.shape[2]
    return np.einsum("mgtk,t->mgk", values.astype(np.int64), 254 ** np.arange(terms)[::-1])


@FORMATS
@pytest.mark.parametrize(("rows", "depth"), [(1, 32), (3, 70), (9, 96), (2, 31)])
def test_activations_are_rounded_by_groups(
    compile_program: Compile, rows: int, depth: int, format: TensorFormat
):
    x = floats(rows, depth)
    x[0, :32] = 0
    wanted = quantized(x, format)
    found = tuple(np.full_like(array, 99) for array in wanted)
    compile_program(quantize_program(depth, format))(x, *found)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-6)


class Weight:
    """Levels uint8 [n, G * 32], scales and, if any, minimums [n, G]."""

    def __init__(self, format: TensorFormat, levels: Array, *floats: Array) -> None:
        self.format, self.levels, self.floats = format, levels, floats

    def interleaved(self) -> list[Array]:
        """As kernels take it, by way of MLC's words."""
        bits, count = self.format.bits, 32 // self.format.bits
        words = np.zeros((len(self.levels), self.levels.shape[1] // count), np.uint32)
        for index in range(count):
            words |= self.levels[:, index::count].astype(np.uint32) << np.uint32(bits * index)
        interleave = interleave_bytes if bits == 8 else interleave_nibbles
        return [interleave(words), *map(interleave_scales, self.floats)]

    def values(self) -> Array:
        """float64 [n, G * 32]."""
        scales, *minimums = (array.astype(np.float64).repeat(32, 1) for array in self.floats)
        zero = {"q4": 7, "q4m": 0, "q8": 128}[self.format.name]
        return (self.levels.astype(np.float64) - zero) * scales + sum(minimums)

    def times(self, values: Array, x_scales: Array) -> Array:
        """Exact sums in groups, in float64."""
        scales, *minimums = (array.astype(np.float64) for array in self.floats)
        groups, zero = scales.shape[1], {"q4": 7, "q4m": 0, "q8": 128}[self.format.name]
        x = whole_values(values.reshape(len(values), groups, -1, 32))
        w = self.levels.reshape(len(self.levels), groups, 32).astype(np.int64) - zero
        sums = np.einsum("mgk,ngk->mng", x, w) * scales
        for minimum in minimums:
            sums = sums + x.sum(axis=2)[:, None, :] * minimum
        return np.einsum("mng,mg->mn", sums, x_scales.astype(np.float64))


def random_weight(format: TensorFormat, rows: int, groups: int, dtype: str) -> Weight:
    levels = random.integers(0, 1 << format.bits, (rows, groups * 32), np.uint8)
    minimums = [-8 * random.random((rows, groups))] if format.has_minimums else []
    floats = (array.astype(dtype) for array in (random.random((rows, groups)), *minimums))
    return Weight(format, levels, *floats)


@FORMATS
@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
@pytest.mark.parametrize(("rows", "depth"), [(1, 32), (15, 70), (33, 96)])
def test_products_are_those_of_numpy(
    compile_program: Compile,
    profile: TargetProfile,
    rows: int,
    depth: int,
    scale_dtype: str,
    format: TensorFormat,
):
    weight = random_weight(format, rows, groups_of(depth), scale_dtype)
    assert profile.dot_product
    matmul = compile_program(matmul_program(rows, depth, format, scale_dtype, profile.dot_product))
    for count in (1, 3, 4, 8, 13, 130):
        inputs = quantized(floats(count, depth), format)
        y = np.full((count, rows), np.nan, np.float32)
        matmul(*inputs, *weight.interleaved(), y)
        expected = weight.times(*inputs[:2])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("format", "most"), [(Q4, 1e-2), (Q4M, 1e-2), (Q8, 4e-5)], ids=lambda value: str(value)
)
def test_rounded_activations_cost_less_than_rounded_weights(
    compile_program: Compile, profile: TargetProfile, format: TensorFormat, most: float
):
    """By the root mean square of outputs: rounding weights costs about 0.06 in 4 bits, 0.004 in 8."""
    weight = random_weight(format, 64, 18, "float32")
    x, y = floats(9, 576), np.zeros((9, 64), np.float32)
    inputs = quantized(np.zeros_like(x), format)
    compile_program(quantize_program(576, format))(x, *inputs)
    assert profile.dot_product
    program = matmul_program(64, 576, format, "float32", profile.dot_product)
    compile_program(program)(*inputs, *weight.interleaved(), y)
    exact = weight.values() @ x.T.astype(np.float64)
    assert np.sqrt(np.mean((y.T - exact) ** 2) / np.mean(exact**2)) < most


@pytest.mark.parametrize(
    ("format", "level"), [(Q4, 15), (Q4, 0), (Q4M, 15), (Q8, 255), (Q8, 0)], ids=str
)
@pytest.mark.parametrize("sign", [1, -1])
def test_extremes_do_not_overflow(
    compile_program: Compile, profile: TargetProfile, format: TensorFormat, level: int, sign: int
):
    ones = [np.ones((16, 2), np.float32)] * (2 if format.has_minimums else 1)
    weight = Weight(format, np.full((16, 64), level, np.uint8), *ones)
    inputs = quantized(np.full((5, 64), sign, np.float32), format)
    y = np.zeros((5, 16), np.float32)
    assert profile.dot_product
    program = matmul_program(16, 64, format, "float32", profile.dot_product)
    compile_program(program)(*inputs, *weight.interleaved(), y)
    value = {"q4": level - 7, "q4m": level + 1, "q8": level - 128}[format.name]
    np.testing.assert_allclose(y, sign * value * 64, rtol=1e-6)


@FORMATS
def test_a_row_has_the_same_bits_in_every_batch(
    compile_program: Compile, profile: TargetProfile, format: TensorFormat
):
    weight = random_weight(format, 48, 5, "float16").interleaved()
    assert profile.dot_product
    matmul = compile_program(matmul_program(48, 160, format, "float16", profile.dot_product))
    inputs = quantized(floats(21, 160), format)
    together = np.zeros((21, 48), np.float32)
    matmul(*inputs, *weight, together)
    for row in range(21):
        alone = np.zeros((1, 48), np.float32)
        matmul(*(array[row : row + 1].copy() for array in inputs), *weight, alone)
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize(("rows", "width"), [(1, 16), (3, 40), (9, 7), (12, 64)])
def test_norms_and_gates(compile_program: Compile, rows: int, width: int):
    x, weight, y = floats(rows, width), floats(width), np.zeros((rows, width), np.float32)
    compile_program(rms_norm_program(width, 1e-5))(x, weight, y)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)

    both = 20 * floats(rows, 2 * width)
    compile_program(gated_silu_program(width))(both, y)
    gate, up = both[:, :width].astype(np.float64), both[:, width:]
    np.testing.assert_allclose(y, gate / (1 + np.exp(-gate)) * up, rtol=1e-5, atol=1e-5)
