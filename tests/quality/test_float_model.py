"""The model in NumPy beside transformers' on random checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.build.checkpoints import write_checkpoint, write_sharded_checkpoint
from webbuild.checkpoint import open_checkpoint
from webbuild.effort import open_float
from webbuild.models import llama_float
from webbuild.quality.measure import hidden_states

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
        {"rope_parameters": LLAMA3, "num_key_value_heads": 2},
    ],
    ids=["plain", "grouped heads, tied", "llama3 rope"],
)
def test_logits_are_those_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    # Several blocks of each, the last of them cut.
    monkeypatch.setattr(llama_float, "QUERY_BLOCK", 32)
    monkeypatch.setattr(llama_float, "VOCABULARY_BLOCK", 300)
    folder = write_checkpoint(tmp_path / "model", **changes)
    tokens = np.random.default_rng(0).integers(0, 1024, (2, 90))
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        expected = model(torch.tensor(tokens)).logits.numpy()
    floats = open_float(open_checkpoint(folder))
    states = hidden_states(floats, tokens)
    logits = np.concatenate([states @ rows.T for _, rows in floats.head_blocks()], axis=-1)
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_rows_of_joined_parameters(tmp_path: Path):
    source = open_checkpoint(write_sharded_checkpoint(tmp_path / "model"))
    weights = open_float(source).weights
    for spec in source.table:
        whole = np.concatenate(
            [
                source.tensors[name].read_rows(0, source.tensors[name].shape[0])
                for name in spec.sources
            ]
        )
        np.testing.assert_array_equal(weights.rows(spec.name), whole)
        np.testing.assert_array_equal(weights.rows(spec.name, 5, 50), whole[5:50])
