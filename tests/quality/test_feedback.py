"""Error feedback, held against GPTQ's definition computed the slow way."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.quality.test_search import to_f16
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.feedback import (
    BELIEF,
    DAMPING,
    FeedbackQuantizer,
    round_with_feedback,
    triangle,
)
from webbuild.quantization.formats import Q4, Q4M, QUANTIZATIONS, TensorFormat
from webbuild.quantization.search import search_groups


def inputs(count: int, width: int) -> np.ndarray:
    """Inputs [count, width] that go together in a few directions."""
    random = np.random.default_rng(7)
    common = random.standard_normal((count, 4)) @ random.standard_normal((4, width))
    return common + 0.5 * random.standard_normal((count, width))


def test_the_triangle_is_of_the_shrunk_inverse():
    products = np.cov(inputs(200, 48).T).astype(np.float32)
    upper = triangle(products).astype(np.float64)
    believed = BELIEF * products + (1 - BELIEF) * np.diag(np.diag(products))
    damped = believed + DAMPING * np.diag(products).mean() * np.eye(48)
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(48), atol=1e-3)
    assert not np.tril(upper, -1).any()


def slow_feedback(
    weight: np.ndarray, hessian: np.ndarray, format: TensorFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Optimal brain quantisation in order: after each column, solve for all columns that follow.

    The remaining columns' best change is -e * H^-1[j, rest] / H^-1[j, j], H^-1 being that of the columns
    that are left: a new inverse for each column.
    """
    rest = weight.astype(np.float64).copy()
    levels = np.zeros(weight.shape, np.uint8)
    scales = np.zeros((len(weight), 0))
    for column in range(weight.shape[1]):
        inverse = np.linalg.inv(hessian[column:, column:])
        if column % 32 == 0:
            last = min(column + 32, weight.shape[1])
            ends = [np.linalg.inv(hessian[at:, at:])[0, 0] for at in range(column, last)]
            group = rest[:, column:last].astype(np.float32)
            costs = np.float32(1 / np.array(ends))
            found = search_groups(np.ascontiguousarray(group), format, to_f16, weights=costs)
            scales = np.concatenate([scales, found.scales], axis=1)
        scale, minimum = found.scales[:, 0], 0.0 if found.minimums is None else found.minimums[:, 0]
        highest = 15 - format.zero_point
        level = np.clip(np.rint((rest[:, column] - minimum) / scale), -format.zero_point, highest)
        levels[:, column] = level + format.zero_point
        error = rest[:, column] - (level * scale + minimum)
        rest[:, column + 1 :] -= np.outer(error, inverse[0, 1:]) / inverse[0, 0]
    return levels, scales


@pytest.mark.parametrize("format", [Q4, Q4M], ids=lambda format: format.name)
def test_feedback_is_the_slow_solution(format: TensorFormat):
    weight = np.random.default_rng(8).standard_normal((6, 208)).astype(np.float32)
    products = np.cov(inputs(600, 208).T).astype(np.float32)
    upper = triangle(products)
    inverse = upper.astype(np.float64).T @ upper.astype(np.float64)
    levels, scales = slow_feedback(weight, np.linalg.inv(inverse), format)
    found = round_with_feedback(weight, upper, format, to_f16)
    np.testing.assert_allclose(found.scales, scales, rtol=1e-2)
    same = found.levels.reshape(6, -1)[:, :208] == levels
    # A value in the middle of two levels may fall to either side, and what follows goes with it.
    assert same.mean() > 0.98


def test_feedback_beats_the_search_where_inputs_go_together():
    weight = np.random.default_rng(9).standard_normal((32, 128)).astype(np.float32)
    seen = inputs(2000, 128)
    products = (seen.T @ seen / len(seen)).astype(np.float32)

    def error(rounded: np.ndarray) -> float:
        return float(np.linalg.norm(seen @ (weight - rounded).T))

    searched = search_groups(weight, Q4, to_f16, weights=np.diag(products).copy()).values(128)
    fed_back = round_with_feedback(weight, triangle(products), Q4, to_f16).values(128)
    assert error(fed_back) < 0.8 * error(searched)


def test_a_group_without_inputs_is_rounded_all_the_same():
    weight = np.random.default_rng(10).standard_normal((4, 40)).astype(np.float32)
    found = round_with_feedback(weight, triangle(np.zeros((40, 40), np.float32)), Q4, to_f16)
    assert np.abs(found.values(40) - weight).max() < 0.5


def test_values_beyond_the_scales_are_told_by_the_scales():
    weight = np.full((2, 64), 1e8, np.float32)
    found = round_with_feedback(weight, triangle(np.eye(64, dtype=np.float32)), Q4, to_f16)
    assert np.isinf(found.scales).any()


def test_rows_are_rounded_alike_in_any_parts():
    """More rows than a thread takes, and parameters in turns, each with its own inputs."""
    quantization = QUANTIZATIONS["q4mf16"]
    random = np.random.default_rng(11)
    specs = [ParameterSpec(f"{n}.weight", (700, 64), (), quantized=True) for n in "ab"]
    rows = random.standard_normal((700, 64)).astype(np.float32)
    seen = {spec.name: inputs(300, 64) * random.lognormal(0, 1, 64) for spec in specs}
    products = {name: (x.T @ x / len(x)).astype(np.float32) for name, x in seen.items()}
    with ThreadPoolExecutor(3) as threads:
        quantizer = FeedbackQuantizer(quantization, threads, lambda spec: products[spec.name])
        for spec in specs:
            upper = triangle(products[spec.name])
            found = [
                quantizer.quantize(spec, Q4M, part, first)
                for part, first in ((rows[:600], 0), (rows[600:], 600))
            ]
            alone = round_with_feedback(rows, upper, Q4M, to_f16)
            for name in ("levels", "scales", "minimums"):
                joined = np.concatenate([getattr(groups, name) for groups in found])
                expected = getattr(alone, name)
                assert joined.shape == expected.shape
                assert np.isclose(joined, expected, rtol=1e-2, atol=1e-3).mean() > 0.99
