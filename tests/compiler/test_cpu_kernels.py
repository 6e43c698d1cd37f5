"""CPU kernels against NumPy: odd shapes, extremes, and the same bits in every batch."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import Target

from mlc_edge.cpu import host_cpu
from webbuild.interleaved import interleave_scales, interleave_words
from webbuild.kernels.cpu.attention import paged_decode, paged_prefill, ragged_prefill
from webbuild.kernels.cpu.elementwise import gated_silu_program, rms_norm_program
from webbuild.kernels.cpu.heads import HeadShape
from webbuild.kernels.cpu.int4 import groups_of, matmul_program, quantize_program
from webbuild.kernels.cpu.rotary import split_rotary
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


def quantized(x: Array) -> tuple[Array, Array, Array]:
    """Values int8 [m, G * 32], scales [m, G], corrections [m, G], one group at a time."""
    rows, depth = x.shape
    groups = groups_of(depth)
    padded = np.zeros((rows, groups * 32), np.float32)
    padded[:, :depth] = x
    values = np.zeros((rows, groups * 32), np.int8)
    scales = np.zeros((rows, groups), np.float32)
    for row, group in np.ndindex(rows, groups):
        part = padded[row, group * 32 : group * 32 + 32]
        largest = np.abs(part).max()
        scales[row, group] = largest / 127
        if largest:
            values[row, group * 32 : group * 32 + 32] = np.rint(part * (np.float32(127) / largest))
    sums = values.reshape(rows, groups, 32).sum(axis=2, dtype=np.int32)
    return values, scales, -7 * sums


@pytest.mark.parametrize(("rows", "depth"), [(1, 32), (3, 70), (9, 96), (2, 31)])
def test_activations_are_rounded_by_groups(compile_program: Compile, rows: int, depth: int):
    x = floats(rows, depth)
    x[0, :32] = 0
    wanted = quantized(x)
    found = tuple(np.full_like(array, 99) for array in wanted)
    compile_program(quantize_program(depth))(x, *found)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    np.testing.assert_array_equal(found[2], wanted[2])


def weights_of(levels: Array, scales: Array) -> tuple[Array, Array]:
    """Levels uint8 [n, G * 32] and scales [n, G] in MLC's words, then interleaved."""
    words = np.zeros((len(levels), levels.shape[1] // 8), np.uint32)
    for index in range(8):
        words |= levels[:, index::8].astype(np.uint32) << np.uint32(4 * index)
    return interleave_words(words), interleave_scales(scales)


def product(values: Array, x_scales: Array, levels: Array, scales: Array) -> Array:
    """Exact sums in groups, in float64."""
    groups = scales.shape[1]
    x = values.reshape(len(values), groups, 32).astype(np.int64)
    w = levels.reshape(len(levels), groups, 32).astype(np.int64) - 7
    sums = np.einsum("mgk,ngk->mng", x, w).astype(np.float64)
    return np.einsum("mng,ng,mg->mn", sums, scales.astype(np.float64), x_scales.astype(np.float64))


@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
@pytest.mark.parametrize(("rows", "depth"), [(1, 32), (15, 70), (16, 128), (33, 96)])
def test_products_are_those_of_numpy(
    compile_program: Compile, profile: TargetProfile, rows: int, depth: int, scale_dtype: str
):
    groups = groups_of(depth)
    levels = random.integers(0, 16, (rows, groups * 32), np.uint8)
    scales = random.random((rows, groups)).astype(scale_dtype)
    weight = weights_of(levels, scales)
    assert profile.dot_product
    matmul = compile_program(matmul_program(rows, depth, scale_dtype, profile.dot_product))
    for count in (1, 3, 4, 8, 13, 130):
        inputs = quantized(floats(count, depth))
        y = np.full((count, rows), np.nan, np.float32)
        matmul(*inputs, *weight, y)
        expected = product(inputs[0], inputs[1], levels, scales)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("level", "sign"), [(15, 1), (15, -1), (0, 1)])
def test_extremes_do_not_overflow(
    compile_program: Compile, profile: TargetProfile, level: int, sign: int
):
    levels = np.full((16, 64), level, np.uint8)
    scales = np.ones((16, 2), np.float32)
    inputs = quantized(np.full((5, 64), sign, np.float32))
    y = np.zeros((5, 16), np.float32)
    assert profile.dot_product
    program = matmul_program(16, 64, "float32", profile.dot_product)
    compile_program(program)(*inputs, *weights_of(levels, scales), y)
    np.testing.assert_allclose(y, sign * (level - 7) * 64, rtol=1e-6)


def test_a_row_has_the_same_bits_in_every_batch(compile_program: Compile, profile: TargetProfile):
    levels = random.integers(0, 15, (48, 160), np.uint8)
    weight = weights_of(levels, random.random((48, 5)).astype(np.float16))
    assert profile.dot_product
    matmul = compile_program(matmul_program(48, 160, "float16", profile.dot_product))
    inputs = quantized(floats(21, 160))
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


HEADS = [HeadShape(4, 2, 32), HeadShape(2, 2, 64), HeadShape(8, 1, 32)]
LENGTHS = (5, 1, 20, 37)
SCALARS = (0, 1.0, 1e4)


def attention(
    q: Array, k: Array, v: Array, shape: HeadShape, *, causal: bool
) -> tuple[Array, Array]:
    """Output [n, h, d] and base-2 log-sum-exp [n, h] of one sequence, in float64."""
    scale = 1 / np.sqrt(shape.width)
    output = np.zeros(q.shape)
    lse = np.zeros(q.shape[:2])
    for token, head in np.ndindex(*q.shape[:2]):
        seen = len(k) - len(q) + token + 1 if causal else len(k)
        shared = head // shape.group
        scores = k[:seen, shared].astype(np.float64) @ q[token, head] * scale
        powers = np.exp(scores - scores.max())
        output[token, head] = powers @ v[:seen, shared] / powers.sum()
        lse[token, head] = (scores.max() + np.log(powers.sum())) / np.log(2)
    return output, lse


def indptr(lengths: tuple[int, ...]) -> Array:
    return np.cumsum([0, *lengths]).astype(np.int32)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", HEADS, ids=str)
def test_prompts_attend_to_themselves(compile_program: Compile, shape: HeadShape, causal: bool):
    total, bounds = sum(LENGTHS), indptr(LENGTHS)
    q, k, v = (floats(total, h, shape.width) for h in (shape.heads, shape.kv_heads, shape.kv_heads))
    output, lse = np.zeros_like(q), np.zeros((total, shape.heads), np.float32)
    unused = np.zeros(total, np.int32), np.zeros(len(LENGTHS), np.int32)
    scale = 1 / np.sqrt(shape.width)
    program = compile_program(ragged_prefill(shape))
    program(q, bounds, k, v, bounds, *unused, output, lse, int(causal), *SCALARS, scale)
    for begin, end in pairwise(bounds):
        part = slice(begin, end)
        expected = attention(q[part], k[part], v[part], shape, causal=causal)
        np.testing.assert_allclose(output[part], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(lse[part], expected[1], rtol=1e-4, atol=1e-5)


class Pages:
    """Keys and values of several sequences in shuffled pages; what isn't used is NaN."""

    def __init__(self, shape: HeadShape, lengths: tuple[int, ...]) -> None:
        counts = [-(-length // 16) for length in lengths]
        self.bounds = indptr(tuple(counts))
        self.numbers = random.permutation(sum(counts) + 2)[: sum(counts)].astype(np.int32)
        self.pages = np.full(
            (sum(counts) + 2, 2, shape.kv_heads, 16, shape.width), np.nan, np.float32
        )
        self.last = np.array(
            [(length - 1) % 16 + 1 if length else 0 for length in lengths], np.int32
        )
        self.keys = [floats(length, shape.kv_heads, shape.width) for length in lengths]
        self.values = [floats(length, shape.kv_heads, shape.width) for length in lengths]
        for sequence, length in enumerate(lengths):
            for token in range(length):
                page = self.numbers[self.bounds[sequence] + token // 16]
                self.pages[page, 0, :, token % 16] = self.keys[sequence][token]
                self.pages[page, 1, :, token % 16] = self.values[sequence][token]


@pytest.mark.parametrize("shape", HEADS, ids=str)
def test_prompts_attend_to_pages(compile_program: Compile, shape: HeadShape):
    new, bounds = (3, 18, 1, 2), indptr((3, 18, 1, 2))
    cached = Pages(shape, LENGTHS)
    total = sum(new)
    q, output = (
        floats(total, shape.heads, shape.width),
        np.zeros((total, shape.heads, shape.width), np.float32),
    )
    lse = np.zeros((total, shape.heads), np.float32)
    zeros = np.zeros(len(new), np.int32)
    scale = 1 / np.sqrt(shape.width)
    compile_program(paged_prefill(shape))(
        *(q, bounds, cached.pages, cached.bounds, cached.numbers, cached.last),
        *(zeros, np.zeros(total, np.int32), output, lse, 0, *SCALARS, scale),
    )
    for sequence, (begin, end) in enumerate(pairwise(bounds)):
        keys, values = cached.keys[sequence], cached.values[sequence]
        expected = attention(q[begin:end], keys, values, shape, causal=False)
        np.testing.assert_allclose(output[begin:end], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(lse[begin:end], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", HEADS, ids=str)
def test_single_tokens_attend_to_pages(compile_program: Compile, shape: HeadShape):
    lengths = (1, 16, 17, 40)
    cached = Pages(shape, lengths)
    count = len(lengths)
    q, output = (
        floats(count, shape.heads, shape.width),
        np.zeros((count, shape.heads, shape.width), np.float32),
    )
    lse = np.zeros((count, shape.heads), np.float32)
    zeros = np.zeros(count, np.int32)
    scale = 1 / np.sqrt(shape.width)
    compile_program(paged_decode(shape))(
        *(q, cached.pages, cached.bounds, cached.numbers, cached.last, zeros, zeros),
        *(output, lse, *SCALARS, scale),
    )
    for row in range(count):
        expected = attention(
            q[row : row + 1], cached.keys[row], cached.values[row], shape, causal=True
        )
        np.testing.assert_allclose(output[row], expected[0][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(lse[row], expected[1][0], rtol=1e-4, atol=1e-5)


def test_queries_and_keys_are_rotated(compile_program: Compile):
    shape, theta = HeadShape(3, 2, 32), 10000.0
    positions = np.array([0, 7, 1000], np.int32)
    qkv = floats(3, 7, 32)
    q, k, v = (np.zeros((3, heads, 32), np.float32) for heads in (3, 2, 2))
    compile_program(split_rotary(shape, theta, {}))(qkv, positions, q, k, v, 1)
    angles = positions[:, None] * theta ** (-np.arange(0, 32, 2) / 32)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = qkv[..., :16], qkv[..., 16:]
    rotated = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    np.testing.assert_allclose(q, rotated[:, :3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(k, rotated[:, 3:5], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(v, qkv[:, 5:])
