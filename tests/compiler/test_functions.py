"""The library's other functions: samplers against NumPy, metadata."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.compiler.conftest import Compiled

random = np.random.default_rng(1)


@pytest.fixture
def compiled(compile_native: Callable[..., Compiled]) -> Compiled:
    # As the second library of a build: what the first one leaves behind must not change it.
    return compile_native("q4f32_1", first=("webgpu-f32",))


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_logit_bias_is_added_in_place(compiled: Compiled):
    logits = floats(2, 50)
    expected = logits.copy()
    expected[0, 3] += 1.5
    expected[1, 7] -= 2
    bias = np.array([1.5, -2], np.float32)
    result = compiled.runner.call("apply_logit_bias_inplace", logits, ints(0, 1), ints(3, 7), bias)
    np.testing.assert_allclose(result.numpy(), expected)


def test_penalties_follow_openai_then_repetition(compiled: Compiled):
    logits = floats(1, 50)
    expected = logits.copy()
    for token, count in ((4, 1), (9, 3)):
        value = expected[0, token] - 0.5 - count * 0.25
        expected[0, token] = value / 1.2 if value > 0 else value * 1.2
    result = compiled.runner.call(
        "apply_penalty_inplace",
        logits,
        ints(0),
        ints(0, 0),
        ints(4, 9),
        ints(1, 3),
        np.array([[0.5, 0.25, 1.2]], np.float32),
    )
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_bitmask_keeps_marked_tokens_only(compiled: Compiled):
    logits = floats(1, 40)
    bits = np.array([[0b1010, 0b1]], np.int32)
    result = compiled.runner.call("apply_bitmask_inplace", logits, ints(0), bits).numpy()
    assert np.flatnonzero(result[0] > -1e30).tolist() == [1, 3, 32]


def test_softmax_and_sorting_agree_with_numpy(compiled: Compiled):
    logits = floats(2, 1, 64)
    temperature = np.array([0.7, 1.3], np.float32)
    scaled = logits / temperature[:, None, None]
    expected = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
    probabilities = compiled.runner.call("softmax_with_temperature", logits, temperature).numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)

    values, tokens = compiled.runner.call("argsort_probs", probabilities[:, 0])
    order = np.argsort(-probabilities[:, 0], axis=-1, kind="stable")
    np.testing.assert_array_equal(tokens.numpy(), order)
    np.testing.assert_allclose(values.numpy(), np.take_along_axis(probabilities[:, 0], order, -1))


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 5), (0.55, 5), (0.7, 2), (0.99, 2)])
def test_top_p_samples_by_inverse_cumulative(compiled: Compiled, uniform: float, expected: int):
    # Within top_p = 0.9 are tokens 5 (0.6) and 2 (0.3): two thirds and one third.
    values = np.array([[0.6, 0.3, 0.08, 0.02]], np.float32)
    chosen = compiled.runner.call(
        "sample_with_top_p",
        values,
        np.array([[5, 2, 0, 1]], np.int32),
        np.array([uniform], np.float32),
        ints(0),
        np.array([0.85], np.float32),
    )
    assert chosen.numpy().tolist() == [expected]


def test_metadata_names_parameters_as_stored(compiled: Compiled):
    metadata = compiled.runner.metadata
    names = [parameter["name"] for parameter in metadata["params"]]
    assert names[:2] == ["model.embed_tokens.q_weight", "model.embed_tokens.q_scale"]
    assert len(set(names)) == len(names)
    assert metadata["memory_usage"]["decode"] > 0
