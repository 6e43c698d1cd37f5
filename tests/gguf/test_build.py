"""Bundles of GGUF files hold the file's weights, and answer as the model with these weights does."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import LlamaConfig, LlamaForCausalLM

from tests.build.conftest import run_build
from tests.build.mlc_reader import read_interleaved, stored_parameter
from tests.compiler.one_sequence import OneSequence
from tests.gguf.writing import WIDE, Weights, gguf_name, write_gguf

TOKENS = np.random.default_rng(0).integers(3, 900, 40).tolist()
# Of all weights that aren't named here.
COMMON = Type.Q4_1
KINDS = {
    "token_embd": Type.Q8_0,
    "output": Type.Q6_K,
    "blk.0.attn_q": Type.Q4_0,
    "blk.0.attn_k": Type.Q4_0,
    "blk.0.attn_v": Type.Q8_0,
    "blk.0.attn_output": Type.IQ4_NL,
    "blk.0.ffn_gate": Type.Q5_1,
    "blk.0.ffn_up": COMMON,
    "blk.0.ffn_down": Type.Q4_0,
    "blk.1.attn_output": Type.Q5_K,
    "blk.1.ffn_gate": Type.Q4_K,
    "blk.1.ffn_up": Type.Q4_K,
    "blk.1.ffn_down": Type.Q5_0,
}
EXACT = {Type.F32, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.IQ4_NL}
WARNINGS = (
    "2 weights are Q4_K: levels are taken as they are",
    "1 weight is Q4_1, fused with weights of other types: rounded again, to q8",
    "1 weight is Q5_1, for which there is no kernel: rounded again, to q8",
    "1 weight is Q5_K, for which there is no kernel: rounded again, to q8",
    "1 weight is Q6_K, for which there is no kernel: rounded again, to q8",
)
FUSED = "model.layers.0.mlp.up_proj.weight"


def kind_of(name: str) -> Type:
    return KINDS.get(name.removesuffix(".weight"), COMMON)


class Built:
    """A model of many types and its bundle, built for this machine."""

    def __init__(self, folder: Path) -> None:
        self.file, self.bundle = folder / "mixed.gguf", folder / "mixed"
        self.weights = write_gguf(self.file, WIDE, types=kind_of)
        self.result = self.build()
        assert self.result.returncode == 0, self.result.stderr

    def build(self, *options: object) -> "subprocess.CompletedProcess[str]":
        return run_build(self.file, "--target", "native", "-o", self.bundle, *options)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("mixed"))


def reference(weights: Weights) -> np.ndarray:
    """transformers' logits float32 [V] after the last token."""
    model = LlamaForCausalLM(LlamaConfig(**WIDE)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name].copy()))
        logits: np.ndarray = model(torch.tensor([TOKENS])).logits[0, -1].numpy()
    return logits


def logits(bundle: Path) -> np.ndarray:
    return OneSequence(bundle).prefill(TOKENS)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def test_the_bundle_has_the_files_weights(built: Built):
    stored = read_interleaved(built.bundle)
    for name, expected in built.weights.items():
        found = stored_parameter(name, stored, expected.shape)[: len(expected)]
        kind = kind_of(gguf_name(name))
        if expected.ndim == 1:
            np.testing.assert_array_equal(found, expected.astype(np.float16))
        elif kind in EXACT and name != FUSED:
            np.testing.assert_array_equal(found, expected)
        elif kind == Type.Q4_K:
            # Half a digit of float16's 11, of scales and of minimums.
            np.testing.assert_allclose(found, expected, atol=2**-11 * 2 * np.abs(expected).max())
        else:
            # Evenly spread errors of half a step have a mean square of a twelfth.
            groups = expected.reshape(len(expected), -1, 32)
            steps = np.abs(groups).max(axis=2, keepdims=True) / 127
            errors = (found.reshape(groups.shape) - groups) / steps
            assert 0 < np.square(errors).mean() < 0.1
            assert np.abs(errors).max() < 3


def test_what_was_rounded_again_is_said(built: Built):
    told = built.result.stderr
    assert [line for line in WARNINGS if f"warning: {line}" not in told] == []
    assert len(re.findall(r"warning: \d+ weights? ", told)) == len(WARNINGS)


def test_logits_are_those_of_the_files_weights(built: Built):
    assert_close(logits(built.bundle), reference(built.weights), tolerance=0.05)


def test_the_same_file_is_not_built_again(built: Built):
    again = built.build()
    assert again.returncode == 0
    assert "is up to date" in again.stdout


def test_floats_are_taken_as_those_of_checkpoints(tmp_path: Path):
    weights = write_gguf(tmp_path / "half.gguf", WIDE, types=lambda name: Type.F16)
    output = tmp_path / "half"
    result = run_build(
        tmp_path / "half.gguf", "--target", "native", "--quant", "q0f32", "-o", output
    )
    assert result.returncode == 0, result.stderr
    assert "rounded" not in result.stderr
    assert_close(logits(output), reference(weights), tolerance=1e-3)


def test_a_file_that_is_no_model_is_bad_input(tmp_path: Path):
    (tmp_path / "odd.gguf").write_bytes(b"GGUF" * 20)
    result = run_build(tmp_path / "odd.gguf", "--target", "native", "-o", tmp_path / "odd")
    assert result.returncode == 2
    assert f"error: {tmp_path / 'odd.gguf'}: GGUF version is" in result.stderr
    assert not (tmp_path / "odd").exists()
    missing = run_build(tmp_path / "none.gguf", "--target", "native", "-o", tmp_path / "none")
    assert (missing.returncode, "can't be read" in missing.stderr) == (2, True)
