"""Scales by search, held against brute force, and against grids that weights lay on before."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from webbuild.models.spec import ParameterSpec
from webbuild.quantization.encode import round_to_bf16
from webbuild.quantization.formats import Q4, Q4M, Q8, QUANTIZATIONS, TensorFormat
from webbuild.quantization.quantizers import SearchQuantizer
from webbuild.quantization.search import search_groups


def to_f16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def squared_error(weight: np.ndarray, found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each group of 32, in float64."""
    errors = weights * (weight.astype(np.float64) - found) ** 2
    return errors.reshape(len(weight), -1, 32).sum(axis=2)


def best_by_force(group: np.ndarray, weights: np.ndarray, format: TensorFormat) -> float:
    """The least error of a group over 4,000 scales of each sign, or over 200 x 200 pairs of ends."""
    if format.has_minimums:
        low, high = group.min(), group.max()
        cuts = np.linspace(-0.05, 0.35, 200) * (high - low)
        lows, highs = np.meshgrid(low + cuts, high - cuts)
        scales, minimums = (highs - lows).ravel() / 15, lows.ravel()
    else:
        sizes = np.abs(group).max() / np.linspace(3, 12, 4000)
        scales, minimums = np.concatenate([sizes, -sizes]), np.zeros(8000)
    highest = (1 << format.bits) - 1
    levels = (group - minimums[:, None]) / scales[:, None] + format.zero_point
    levels = np.clip(np.rint(levels), 0, highest) - format.zero_point
    rest = group - (levels * scales[:, None] + minimums[:, None])
    return float((weights * rest**2).sum(axis=1).min())


@pytest.mark.parametrize("format", [Q4, Q4M], ids=lambda format: format.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_search_is_as_good_as_brute_force(format: TensorFormat, weighted: bool):
    random = np.random.default_rng(1)
    weight = random.standard_normal((8, 64)).astype(np.float32)
    weight[4:] **= 3
    weights = random.lognormal(0, 1, 64).astype(np.float32) if weighted else np.ones(64, np.float32)
    found = search_groups(weight, format, to_f16, weights=weights if weighted else None)
    errors = squared_error(weight, found.values(64), weights)
    forced = np.array(
        [
            [best_by_force(row[at : at + 32], weights[at : at + 32], format) for at in (0, 32)]
            for row in weight.astype(np.float64)
        ]
    )
    assert found.levels.max() < 1 << format.bits
    # Of two dimensions, ends far inside of a group's range are left out.
    worst, total = (1.6, 1.08) if format.has_minimums else (1.25, 1.02)
    assert errors.sum() <= total * forced.sum()
    assert (errors <= worst * forced).all()


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_scales_are_the_best_of_their_levels(format: TensorFormat, weighted: bool):
    """Least squares for the levels that were found leave as much error, but for what storing rounds."""
    random = np.random.default_rng(12)
    weight = random.standard_normal((32, 64)).astype(np.float32)
    weights = random.lognormal(0, 1, 64).astype(np.float32) if weighted else np.ones(64, np.float32)
    found = search_groups(weight, format, to_f16, weights=weights)
    errors = squared_error(weight, found.values(64), weights)
    best = np.empty_like(errors)
    for row, group in np.ndindex(errors.shape):
        part = slice(32 * group, 32 * group + 32)
        levels = found.levels[row, group].astype(np.float64) - format.zero_point
        roots = np.sqrt(weights[part].astype(np.float64))
        columns = [levels, np.ones(32)] if format.has_minimums else [levels]
        (rest,) = np.linalg.lstsq(np.stack(columns, 1) * roots[:, None], weight[row, part] * roots)[
            1
        ]
        best[row, group] = rest
    assert errors.sum() < 1.004 * best.sum()


@pytest.mark.parametrize("sign", [1, -1])
def test_both_signs_are_tried(sign: int):
    """What lies far out and is never read must not turn the side on which there is a level more."""
    levels = np.arange(32) % 16 - 7
    weight = (sign * levels[None] / 16).astype(np.float32)
    weights = np.ones(32, np.float32)
    weight[0, 5], weights[5] = sign * -9 / 16, 1e-6
    found = search_groups(weight, Q4, to_f16, weights=weights).values(32)
    read = weights == 1
    np.testing.assert_allclose(found[0, read], weight[0, read], atol=1e-6)


def test_inputs_count_by_their_squares_and_none_for_nothing():
    random = np.random.default_rng(13)
    weight = random.standard_normal((64, 64)).astype(np.float32)
    squares = random.lognormal(0, 2, 64).astype(np.float32)
    squares[32:] = 0
    spec = ParameterSpec("x.weight", weight.shape, (), quantized=True)
    with ThreadPoolExecutor(2) as threads:
        quantizer = SearchQuantizer(QUANTIZATIONS["q4f16_1"], threads, lambda _: squares)
        found = quantizer.quantize(spec, Q4, weight, 0).values(64)
    exact = search_groups(weight[:, :32], Q4, to_f16, weights=squares[:32]).values(32)
    errors = [
        squared_error(weight[:, :32], each, squares[:32]).sum() for each in (found[:, :32], exact)
    ]
    assert errors[0] < 1.005 * errors[1]
    unread = search_groups(weight[:, 32:], Q4, to_f16).values(32)
    np.testing.assert_array_equal(found[:, 32:], unread)


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("q4mf32", torch.bfloat16), ("q4mf16", torch.float16)]
)
def test_quantisers_find_levels_for_what_is_stored(quantization: str, dtype: torch.dtype):
    weight = np.random.default_rng(14).standard_normal((8, 64)).astype(np.float32)
    spec = ParameterSpec("x.weight", weight.shape, (), quantized=True)
    with ThreadPoolExecutor(2) as threads:
        quantizer = SearchQuantizer(QUANTIZATIONS[quantization], threads)
        found = quantizer.quantize(spec, Q4M, weight, 0)
    for floats in (found.scales, found.minimums):
        np.testing.assert_array_equal(floats, torch.tensor(floats).to(dtype).float().numpy())


def test_eight_bits_are_near():
    weight = np.random.default_rng(2).standard_normal((16, 96)).astype(np.float32)
    found = search_groups(weight, Q8, to_f16).values(96)
    plain = np.abs(weight.reshape(16, 3, 32)).max(axis=2, keepdims=True) / 127
    nearest = np.rint(weight.reshape(16, 3, 32) / plain) * plain
    ours = squared_error(weight, found, np.ones(96)).sum()
    assert ours <= squared_error(weight, nearest.reshape(16, 96), np.ones(96)).sum()


def on_grid(format: TensorFormat, random: np.random.Generator) -> np.ndarray:
    """Weights [8, 64] of random levels, with the extremes that absolute maxima lead to."""
    highest = (1 << format.bits) - 1
    levels = random.integers(0 if format.bits == 4 else 1, highest + 1, (8, 2, 32))
    levels[..., 3], levels[..., 17] = highest, 0 if format.has_minimums else levels[..., 17]
    scales = to_f16(random.uniform(0.001, 0.1, (8, 2, 1)).astype(np.float32))
    scales *= random.choice([-1, 1], scales.shape) if format == Q4 else 1
    minimums = to_f16(random.uniform(-1, 0, (8, 2, 1)).astype(np.float32))
    values = (levels - format.zero_point).astype(np.float32) * scales
    return (values + minimums if format.has_minimums else values).reshape(8, 64).astype(np.float32)


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_a_grid_is_found_again(format: TensorFormat):
    weight = on_grid(format, np.random.default_rng(3))
    found = search_groups(weight, format, to_f16).values(64)
    np.testing.assert_allclose(found, weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("largest", range(1, 8))
def test_coarser_grids_are_found_again(largest: int):
    random = np.random.default_rng(largest)
    levels = random.integers(-largest, largest + 1, (8, 64))
    levels[:, ::32], levels[:, 1::32] = largest, -largest
    weight = (levels * 0.0625).astype(np.float32)
    np.testing.assert_allclose(search_groups(weight, Q4, to_f16).values(64), weight, atol=1e-6)


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_the_result_depends_on_no_thread_and_on_no_neighbour(format: TensorFormat):
    weight = np.random.default_rng(4).standard_normal((300, 200)).astype(np.float32)
    alone = search_groups(weight, format, to_f16)
    with ThreadPoolExecutor(4) as threads:
        together = search_groups(weight, format, to_f16, threads=threads)
    part = search_groups(weight[100:117], format, to_f16)
    np.testing.assert_array_equal(alone.levels, together.levels)
    np.testing.assert_array_equal(alone.scales, together.scales)
    np.testing.assert_array_equal(alone.levels[100:117], part.levels)


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_scales_are_what_is_stored(format: TensorFormat):
    weight = np.random.default_rng(5).standard_normal((4, 64)).astype(np.float32)
    found = search_groups(weight, format, round_to_bf16)
    for floats in (found.scales, found.minimums):
        if floats is not None:
            np.testing.assert_array_equal(floats, round_to_bf16(floats))


@pytest.mark.parametrize("format", [Q4, Q4M, Q8], ids=lambda format: format.name)
def test_padding_and_empty_groups(format: TensorFormat):
    weight = np.zeros((3, 80), np.float32)
    weight[1] = np.linspace(1, 2, 80)
    found = search_groups(weight, format, to_f16)
    assert found.levels.shape == (3, 3, 32)
    assert not found.values(80)[0].any()
    np.testing.assert_allclose(found.values(80)[1], weight[1], atol=0.16)


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e4, 1e30])
def test_no_size_is_lost_where_scales_are_wide(size: float):
    weight = np.random.default_rng(6).standard_normal((4, 64)).astype(np.float32)
    small = search_groups(weight, Q4, round_to_bf16).values(64)
    scaled = search_groups(weight * np.float32(size), Q4, round_to_bf16).values(64)
    # bfloat16 rounds other sizes otherwise.
    assert np.abs(scaled / np.float32(size) - small).max() < 0.25
    assert np.isfinite(scaled).all()


def test_values_beyond_float16_have_no_finite_scale():
    weight = np.full((1, 32), 1e7, np.float32)
    assert np.isinf(search_groups(weight, Q4, to_f16).scales).all()
