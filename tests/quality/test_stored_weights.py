"""Weights of a parameter set read back, and what `build` says of them, without our own readers of either."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.build.mlc_reader import layer_weight, read_tensors, stored_parameter
from tests.build.nearest import NearestQuantizer
from tests.quality.checkpoints import write_sensitive_checkpoint
from webbuild.calibration.corpus import FOLDER, HELD_OUT, TokenIds, read_text
from webbuild.checkpoint import Checkpoint, open_checkpoint
from webbuild.effort import MEASURED_TOKENS, measure_quality
from webbuild.quality.stored_weights import StoredWeights
from webbuild.quantization.choices import QuantRule, choose_formats
from webbuild.quantization.formats import QUANTIZATIONS
from webbuild.tensor_cache import plan_weights, write_weights

# With tables in 8 bits and the quantisation's own, every format.
RULES = ("qkv_proj=q0", "o_proj=q4m", "gate_up_proj=q8")


def write(folder: Path, quantization: str) -> Checkpoint:
    """A parameter set in `folder` of the checkpoint beside it."""
    source = open_checkpoint(write_sensitive_checkpoint(folder / "model"))
    chosen = QUANTIZATIONS[quantization]
    rules = [QuantRule.parse(rule) for rule in RULES]
    plan = plan_weights(source.table, choose_formats(source.table, chosen, rules=rules))
    write_weights(folder, plan, source.tensors, NearestQuantizer(chosen), lambda _: None)
    return source


@pytest.mark.parametrize("quantization", ["q4f16_1", "q4f32_1"])
def test_values_are_those_of_the_description(tmp_path: Path, quantization: str):
    source = write(tmp_path, quantization)
    stored, weights = read_tensors(tmp_path), StoredWeights(tmp_path, source.table)
    for spec in source.table:
        layer = spec.name.removesuffix(".weight")
        if spec.name in stored:
            expected = stored[spec.name].astype(np.float32)
        else:
            expected = layer_weight(layer, stored, spec.shape[1])
        np.testing.assert_array_equal(weights.rows(spec.name), expected)
        np.testing.assert_array_equal(weights.rows(spec.name, 3, 41), expected[3:41])


def test_a_build_says_what_pytorch_finds(tmp_path: Path):
    source = write(tmp_path, "q4f16_1")
    found = measure_quality(source, tmp_path)
    assert found
    text = read_text(FOLDER / HELD_OUT)
    tokens = TokenIds(source.chat).sequences(text, length=MEASURED_TOKENS, count=1)
    reference = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    rounded = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    stored = read_tensors(tmp_path)
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            parameter.copy_(torch.from_numpy(stored_parameter(name, stored, parameter.shape)))
        before, after = (
            torch.log_softmax(model(torch.tensor(tokens)).logits[0, :-1].double(), dim=1)
            for model in (reference, rounded)
        )
    divergences = (before.exp() * (before - after)).sum(dim=1)
    np.testing.assert_allclose(found.divergences, divergences, rtol=1e-2, atol=1e-7)
    assert divergences.mean() > 1e-4
    targets = torch.tensor(tokens[0, 1:])
    for got, logs in (
        (found.reference_perplexity, before),
        (found.model_perplexity, after),
    ):
        assert got == pytest.approx(torch.nn.functional.nll_loss(logs, targets).exp().item(), 1e-4)
    assert found.same_choice == (before.argmax(dim=1) == after.argmax(dim=1)).double().mean()
