"""Logits in the browser agree with transformers', for models of several shapes and formats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser
from transformers import LlamaForCausalLM

from tests.browser import build_bundle, engine_page
from tests.build.mlc_reader import read_tensors, stored_parameter
from tests.engine.checkpoints import write_checkpoint
from tests.gpu.models import binding
from webbuild.build import BuildRequest, build

TOKENS = np.random.default_rng(0).integers(3, 900, 40).tolist()
SIZES = ("--context-window-size", "128", "--prefill-chunk-size", "32")
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "all heads, tied, odd vocabulary, llama3 rope": {
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "vocab_size": 1031,
        "rope_parameters": LLAMA3_ROPE,
    },
    # Beyond what one thread reduces alone: TVM's kernels with barriers.
    "many wide heads": {
        "hidden_size": 160,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "num_hidden_layers": 1,
        "initializer_range": 0.1,
    },
}


def reference(folder: Path, stored: dict[str, np.ndarray] | None = None) -> torch.Tensor:
    """float32 [V] after the last token; with `stored`, of a bundle's dequantised weights."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters() if stored else ():
            parameter.copy_(torch.from_numpy(stored_parameter(name, stored, parameter.shape)))
        return model(torch.tensor([TOKENS])).logits[0, -1]


def logits_in_browser(browser: Browser, url: str, bundle: str) -> torch.Tensor:
    with engine_page(browser, url) as page:
        page.load(bundle)
        return torch.tensor(
            page.run("(ids) => engine.debug.logits(ids).then((l) => Array.from(l))", TOKENS)
        )


# Relative to the largest logit. SwiftShader's own sines and exponentials cost 8e-4 with float32 weights, and
# up to 1.6e-3 with rounded ones; lavapipe keeps to 2e-5 (tests/gpu).
TOLERANCE = 3e-3


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((actual - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(browser: Browser, site: Path, site_url: str, tmp_path: Path, name: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", **SHAPES[name])
    bundle = f"shape-{list(SHAPES).index(name)}"
    build_bundle(checkpoint, site / "bundles" / bundle, "--quant", "q0f32", *SIZES)
    assert_close(logits_in_browser(browser, site_url, bundle), reference(checkpoint))


def test_a_vocabulary_that_is_bound_in_pieces(
    browser: Browser, site: Path, site_url: str, tmp_path: Path
) -> None:
    shape = {"vocab_size": 1031, "tie_word_embeddings": True}
    checkpoint, output = tmp_path / "checkpoint", site / "bundles" / "pieces"
    write_checkpoint(checkpoint, **shape)
    with binding(20_000):
        build(
            BuildRequest(
                checkpoint=checkpoint,
                output=output,
                targets=("webgpu-f32",),
                context_window_size=128,
                prefill_chunk_size=32,
            )
        )
    expected = reference(checkpoint, read_tensors(output))
    assert_close(logits_in_browser(browser, site_url, "pieces"), expected)


def test_half_precision_weights_are_widened(
    browser: Browser, site: Path, site_url: str, checkpoint: Path
) -> None:
    output = site / "bundles" / "widened"
    build_bundle(
        checkpoint, output, "--quant", "q4f16_1", "--target", "webgpu-software-f32", *SIZES
    )
    expected = reference(checkpoint, read_tensors(output))
    assert_close(logits_in_browser(browser, site_url, "widened"), expected)
