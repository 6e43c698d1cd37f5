"""The library's other functions: samplers against NumPy, here and in a browser, metadata."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.compiler.browser_library import BrowserLibrary, browser_library
from tests.compiler.conftest import Compiled

Call = Callable[..., list[np.ndarray]]
random = np.random.default_rng(1)


@pytest.fixture
def compiled(compile_native: Callable[..., Compiled]) -> Compiled:
    # As the second library of a build: what the first one leaves behind must not change it.
    return compile_native("q4f32_1", first=("webgpu-software-f32",))


@pytest.fixture(scope="module")
def in_browser(
    compile_native: Callable[..., Compiled], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserLibrary]:
    bundle = compile_native("q4f32_1", first=("webgpu-software-f32",)).bundle
    with browser_library(
        bundle / "lib/webgpu-software-f32.wasm", tmp_path_factory.mktemp("page")
    ) as library:
        yield library


@pytest.fixture(params=["cpu", "browser"])
def call(request: pytest.FixtureRequest, compiled: Compiled, in_browser: BrowserLibrary) -> Call:
    """Calls a function of the library for this CPU, or of the one for WebGPU."""

    def on_cpu(name: str, *arrays: np.ndarray) -> list[np.ndarray]:
        found = compiled.runner.call(name, *arrays)
        return [part.numpy() for part in (found if hasattr(found, "__len__") else [found])]

    return on_cpu if request.param == "cpu" else in_browser.call


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_logit_bias_is_added_in_place(call: Call):
    logits = floats(2, 50)
    expected = logits.copy()
    expected[0, 3] += 1.5
    expected[1, 7] -= 2
    bias = np.array([1.5, -2], np.float32)
    (result,) = call("apply_logit_bias_inplace", logits, ints(0, 1), ints(3, 7), bias)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_penalties_follow_openai_then_repetition(call: Call):
    logits = floats(1, 50)
    expected = logits.copy()
    for token, count in ((4, 1), (9, 3)):
        value = expected[0, token] - 0.5 - count * 0.25
        expected[0, token] = value / 1.2 if value > 0 else value * 1.2
    (result,) = call(
        "apply_penalty_inplace",
        logits,
        ints(0),
        ints(0, 0),
        ints(4, 9),
        ints(1, 3),
        np.array([[0.5, 0.25, 1.2]], np.float32),
    )
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_bitmask_keeps_marked_tokens_only(call: Call):
    logits = floats(1, 40)
    bits = np.array([[0b1010, 0b1]], np.int32)
    (result,) = call("apply_bitmask_inplace", logits, ints(0), bits)
    assert np.flatnonzero(result[0] > -1e30).tolist() == [1, 3, 32]


def test_softmax_and_sorting_agree_with_numpy(call: Call):
    logits = floats(2, 1, 1024)
    temperature = np.array([0.7, 1.3], np.float32)
    scaled = logits / temperature[:, None, None]
    expected = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
    (probabilities,) = call("softmax_with_temperature", logits, temperature)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)

    values, tokens = call("argsort_probs", probabilities[:, 0])
    order = np.argsort(-probabilities[:, 0], axis=-1, kind="stable")
    np.testing.assert_array_equal(tokens, order)
    np.testing.assert_array_equal(values, np.take_along_axis(probabilities[:, 0], order, -1))


def test_the_lowest_temperature_is_greedy(call: Call):
    logits = np.array([[[1.0, 3.0, 2.99]], [[5.0, 1.0, 2.0]]], np.float32)
    (probabilities,) = call("softmax_with_temperature", logits, np.zeros(2, np.float32))
    np.testing.assert_allclose(probabilities[:, 0], [[0, 1, 0], [1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("top_p", "uniform", "expected"),
    [
        # Within 0.85 are tokens 5 (0.6) and 2 (0.3): two thirds and one third.
        (0.85, 0.0, 5),
        (0.85, 0.55, 5),
        (0.85, 0.7, 2),
        (0.85, 0.99, 2),
        (0.6, 0.99, 5),
        (1.0, 0.55, 5),
        (1.0, 0.7, 2),
        (1.0, 0.95, 0),
        (1.0, 0.99, 1),
        (1.0, 0.9999999, 1),
        (1e-5, 0.9999999, 5),
    ],
)
def test_top_p_samples_by_inverse_cumulative(
    call: Call, top_p: float, uniform: float, expected: int
):
    values = np.array([[0.6, 0.3, 0.08, 0.02]], np.float32)
    numbers = [np.array([number], np.float32) for number in (uniform, top_p)]
    indices = np.array([[5, 2, 0, 1]], np.int32)
    (chosen,) = call("sample_with_top_p", values, indices, numbers[0], ints(0), numbers[1])
    assert chosen.tolist() == [expected]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1024, 32_000])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
def test_samples_are_spread_as_the_probabilities_are(call: Call, count: int, top_p: float):
    logits = np.random.default_rng(count).standard_normal((2, count)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    values = -np.sort(-probabilities.astype(np.float32), axis=-1)
    tokens = np.stack([np.arange(count)[::-1], np.arange(count)]).astype(np.int32)
    rows = np.arange(64, dtype=np.int32) % 2
    uniform = ((np.arange(64) + 0.5) / 64).astype(np.float32)
    (chosen,) = call(
        "sample_with_top_p", values, tokens, uniform, rows, np.full(2, top_p, np.float32)
    )
    for row in (0, 1):
        sums = np.cumsum(values[row].astype(np.float64))
        kept = min(int(np.searchsorted(sums, top_p)), count - 1)
        places = np.searchsorted(sums, uniform[rows == row] * sums[kept], side="right")
        found = [list(tokens[row]).index(token) for token in chosen[rows == row]]
        # Sums of float32 may come to the other side of a border.
        assert np.abs(sums[found] - sums[np.minimum(places, kept)]).max() < 1e-3
        assert max(found) <= kept + 1


def test_metadata_names_parameters_as_stored(compiled: Compiled):
    metadata = compiled.runner.metadata
    names = [parameter["name"] for parameter in metadata["params"]]
    assert names[:2] == ["model.embed_tokens.q_weight", "model.embed_tokens.q_scale"]
    assert len(set(names)) == len(names)
    assert metadata["memory_usage"]["decode"] > 0
