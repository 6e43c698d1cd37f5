"""Several sequences in one call give each what it gets alone; attention passes its self-test."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from tvm_ffi import Shape

from tests.compiler.conftest import Compiled, assert_close

FIRST, SECOND = [5, 17, 23, 99, 41], [7, 311, 12, 640, 77, 8, 9]
LENGTHS = Shape([len(FIRST), len(SECOND)])
SEQUENCES = Shape([0, 1])
NEXT = (33, 44)


class Batch:
    """Two sequences in a KV cache of their own."""

    def __init__(self, compiled: Compiled) -> None:
        self._runner = compiled.runner
        sizes = [Shape([size]) for size in (2, 128, 16, 16, 0)]
        self.cache = self._runner.call("create_tir_paged_kv_cache", *sizes)
        for sequence in SEQUENCES:
            _state("add_sequence", self.cache, sequence)

    def embed(self, tokens: list[int]) -> np.ndarray:
        ids = np.array(tokens, np.int32)
        return self._runner.call("embed", ids, self._runner._parameters).numpy()

    def forward(self, function: str, lengths: Shape, *arguments: Any) -> np.ndarray:
        """Logits of `function` on embeddings and further arguments that precede the cache."""
        _state("begin_forward", self.cache, SEQUENCES, lengths)
        result = self._runner.call(function, *arguments, self.cache, self._runner._parameters)
        _state("end_forward", self.cache)
        return result[0].numpy()


def _state(name: str, *arguments: Any) -> None:
    tvm_ffi.get_global_func(f"vm.builtin.kv_state_{name}")(*arguments)


def alone(compiled: Compiled, tokens: list[int], following: int) -> tuple[np.ndarray, np.ndarray]:
    compiled.runner.reset()
    return compiled.runner.prefill(tokens), compiled.runner.decode(following)


@pytest.mark.parametrize("quant", ["q0f32", "q4f32_1"])
def test_batched_forms_equal_single_ones(compile_native: Callable[..., Compiled], quant: str):
    compiled = compile_native(quant)
    singles = [alone(compiled, *pair) for pair in zip((FIRST, SECOND), NEXT, strict=True)]
    batch = Batch(compiled)
    rows = batch.embed(FIRST + SECOND)[None]
    last = np.array([len(FIRST) - 1, len(FIRST) + len(SECOND) - 1], np.int32)

    prefilled = batch.forward("batch_prefill", LENGTHS, rows, last)
    assert_close(prefilled[0], np.stack([prefill for prefill, _ in singles]), 1e-5)

    decoded = batch.forward("batch_decode", Shape([1, 1]), batch.embed([*NEXT])[:, None])
    assert_close(decoded[:, 0], np.stack([decode for _, decode in singles]), 1e-5)


def test_verification_gives_logits_after_each_token(compile_native: Callable[..., Compiled]):
    compiled = compile_native()
    batch = Batch(compiled)
    logits = batch.forward("batch_verify", LENGTHS, batch.embed(FIRST + SECOND)[None])[0]
    compiled.runner.reset()
    assert_close(logits[: len(FIRST)], compiled.runner.verify(FIRST), 1e-5)
    compiled.runner.reset()
    assert_close(logits[len(FIRST) :], compiled.runner.verify(SECOND), 1e-5)


def test_attention_gives_what_the_metadata_says(compile_native: Callable[..., Compiled]):
    runner = compile_native("q4f32_1").runner
    facts, vectors = runner.metadata["attention"], runner.metadata["self_test"]["attention"]
    heads = facts["num_attention_heads"] + 2 * facts["num_key_value_heads"]
    count, split = vectors["prefill_length"] + 1, vectors["prefill_length"]
    elements = np.arange(count * heads * facts["head_dim"])
    qkv = (np.sin(0.37 * elements) * 0.5).astype(np.float32).reshape(1, count, -1)
    cache = runner.call("create_tir_paged_kv_cache", *(Shape([s]) for s in (1, 64, 16, 16, 0)))
    _state("add_sequence", cache, 0)
    for part in (qkv[:, :split], qkv[:, split:]):
        _state("begin_forward", cache, Shape([0]), Shape([part.shape[1]]))
        attended = runner.call("self_test_attention", part, cache).numpy()
        _state("end_forward", cache)
    expected = vectors["expected_decode"]
    np.testing.assert_allclose(attended.ravel()[: len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_mistral_is_built_as_a_llama(compile_native: Callable[..., Compiled]):
    tokens = FIRST + SECOND
    mistral = compile_native(model_type="mistral", sliding_window=None).runner.prefill(tokens)
    assert_close(mistral, compile_native().runner.prefill(tokens), 1e-6)
