"""Compiled logits agree with transformers', whatever the shape and however tokens arrive."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.build.mlc_reader import read_interleaved, stored_parameter
from tests.compiler.conftest import CHUNK, Compiled, assert_close, logits_of

TOKENS = np.random.default_rng(0).integers(3, 900, 40).tolist()
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "grouped heads": {},
    "all heads, tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "odd vocabulary": {"vocab_size": 1031},
    "llama3 rope": {"rope_parameters": LLAMA3_ROPE},
    "wide heads": {"head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
}


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_unquantised_logits_agree(compile_native: Callable[..., Compiled], changes: dict):
    compiled = compile_native(**changes)
    expected = logits_of(compiled.reference(), TOKENS)
    runner = compiled.runner

    assert_close(runner.prefill(TOKENS), expected[-1])

    runner.reset()
    runner.prefill(TOKENS[:5])
    for position in range(5, 9):
        assert_close(runner.decode(TOKENS[position]), expected[position])

    runner.reset()
    assert_close(runner.verify(TOKENS[:CHUNK]), expected[:CHUNK])


def test_forgotten_tokens_leave_no_trace(compile_native: Callable[..., Compiled]):
    runner = compile_native().runner
    runner.prefill(TOKENS[:10])
    expected = runner.decode(7)
    runner.pop(1)
    runner.prefill(TOKENS[10:20])
    runner.pop(10)
    np.testing.assert_allclose(runner.decode(7), expected, rtol=1e-5, atol=1e-6)


def round_inputs_to_int8(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple:
    """What CPU libraries do to the inputs of a 4-bit layer: 255 levels for each 32 of them."""
    width = inputs[0].shape[-1]
    padded = torch.nn.functional.pad(inputs[0], (0, -width % 32))
    groups = padded.unflatten(-1, (-1, 32))
    steps = groups.abs().amax(-1, keepdim=True) / 127
    return ((groups / steps).round().mul(steps).flatten(-2)[..., :width],)


@pytest.mark.parametrize("quant", ["q4f32_1", "q4f16_1", "q4mf16", "q8f16", "q8f32"])
def test_quantised_logits_agree_with_dequantised_weights(
    compile_native: Callable[..., Compiled], quant: str
):
    compiled = compile_native(quant)
    stored = read_interleaved(compiled.bundle)
    model = compiled.reference()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(stored_parameter(name, stored, parameter.shape)))
    logits = compiled.runner.prefill(TOKENS)
    assert_close(logits, logits_of(model, TOKENS)[-1], tolerance=0.05)
    for name, module in model.named_modules():
        in_4_bits = name != "lm_head" and quant.startswith("q4")
        if isinstance(module, torch.nn.Linear) and in_4_bits:
            module.register_forward_pre_hook(round_inputs_to_int8)
    # A rounding that falls to the other side moves an input by a whole step.
    tolerance = 0.01 if quant.startswith("q4") else 1e-3
    assert_close(logits, logits_of(model, TOKENS)[-1], tolerance)
