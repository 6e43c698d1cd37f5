"""Several sequences in one call give each what it gets alone."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mlc_edge.model_runner import CacheSizes, ModelRunner
from tests.compiler.conftest import Compiled, assert_close

FIRST, SECOND = [5, 17, 23, 99, 41], [7, 311, 12, 640, 77, 8, 9]
SEQUENCES = (0, 1)
NEXT = (33, 44)


@pytest.fixture
def batch(compile_native: Callable[..., Compiled]) -> Iterator[Callable[..., ModelRunner]]:
    """A compiled runner with two sequences instead of one."""
    changed = []

    def begin(quant: str) -> ModelRunner:
        one = compile_native(quant).runner
        changed.append(one)
        one.runner.create_cache(CacheSizes(2, 128, 16))
        for sequence in SEQUENCES:
            one.runner.add_sequence(sequence)
        return one.runner

    yield begin
    for one in changed:
        one.runner.create_cache(CacheSizes(1, one.runner.context_window_size, 16))
        one.runner.add_sequence(0)


def alone(compiled: Compiled, tokens: list[int], following: int) -> tuple[np.ndarray, np.ndarray]:
    compiled.runner.reset()
    return compiled.runner.prefill(tokens), compiled.runner.decode(following)


@pytest.mark.parametrize("quant", ["q0f32", "q4f32_1"])
def test_sequences_of_a_batch_get_what_they_get_alone(
    compile_native: Callable[..., Compiled], batch: Callable[..., ModelRunner], quant: str
):
    singles = [
        alone(compile_native(quant), *pair) for pair in zip((FIRST, SECOND), NEXT, strict=True)
    ]
    runner = batch(quant)
    prefilled = runner.prefill(SEQUENCES, [FIRST, SECOND])
    assert_close(prefilled, np.stack([prefill for prefill, _ in singles]), 1e-5)
    decoded = runner.decode(SEQUENCES, NEXT)
    assert_close(decoded, np.stack([decode for _, decode in singles]), 1e-5)


def test_a_forked_sequence_goes_its_own_way(
    compile_native: Callable[..., Compiled], batch: Callable[..., ModelRunner]
):
    tokens = [*SECOND, *FIRST, *SECOND]
    compiled = compile_native("q4f32_1")
    expected = [alone(compiled, tokens[:length], 33)[1] for length in (len(tokens), 9)]
    runner = batch("q4f32_1")
    runner.prefill([0], [tokens[:16]])
    runner.prefill([0], [tokens[16:]])
    runner.remove_sequence(1)
    runner.fork_sequence(0, 1, 9)
    assert_close(runner.decode(SEQUENCES, [33, 33]), np.stack(expected), 1e-4)


@pytest.mark.parametrize("quant", ["q0f32", "q4f32_1"])
def test_single_forms_equal_batched_ones(
    compile_native: Callable[..., Compiled], batch: Callable[..., ModelRunner], quant: str
):
    prefill, decode = alone(compile_native(quant), FIRST, 33)
    runner = batch(quant)
    for function, tokens, expected in (("prefill", FIRST, prefill), ("decode", [33], decode)):
        rows = runner._embed(np.array(tokens, np.int32), (1, len(tokens)))
        logits = runner._forward(function, [0], [len(tokens)], rows)
        assert_close(logits[0, 0], expected, 1e-5)


def test_mistral_is_built_as_a_llama(compile_native: Callable[..., Compiled]):
    tokens = FIRST + SECOND
    mistral = compile_native(model_type="mistral", sliding_window=None).runner.prefill(tokens)
    assert_close(mistral, compile_native().runner.prefill(tokens), 1e-6)
