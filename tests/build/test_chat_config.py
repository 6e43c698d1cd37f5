"""mlc-chat-config.json: what MLC's runtimes read of a model, its tokenizer and its sampling."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.checkpoints import write_checkpoint
from webbuild.chat_config import chat_config
from webbuild.checkpoint import open_checkpoint


def config_of(folder: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(folder)
    return chat_config(
        checkpoint.model,
        checkpoint.chat,
        conv_template={"name": "template"},
        quantization="q4f16_1",
        context_window_size=128,
        prefill_chunk_size=64,
        rounding={},
    )


def test_sizes_are_those_of_model_and_build(tmp_path: Path):
    config = config_of(write_checkpoint(tmp_path / "checkpoint", vocab_size=1031))
    assert (config["vocab_size"], config["active_vocab_size"]) == (1031, 1024)
    for sizes in (config, config["model_config"]):
        assert (sizes["context_window_size"], sizes["prefill_chunk_size"]) == (128, 64)
    assert config["model_config"]["position_embedding_base"] == 10000
    assert config["model_config"]["head_dim"] == 32
    assert config["conv_template"] == {"name": "template"}


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ({}, (1.0, 1.0, 1.0)),
        ({"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}, (0.6, 0.9, 1.1)),
        ({"temperature": 0.6, "do_sample": True}, (0.6, 1.0, 1.0)),
        ({"temperature": 0.6, "do_sample": False}, (0.0, 1.0, 1.0)),
    ],
)
def test_sampling_defaults_are_the_checkpoints(
    tmp_path: Path, generation: dict[str, Any], expected: tuple[float, ...]
):
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / "generation_config.json").write_text(json.dumps(generation))
    config = config_of(folder)
    found = tuple(config[name] for name in ("temperature", "top_p", "repetition_penalty"))
    assert found == expected


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_mlc_is_told_how_the_tokenizer_spells_bytes(tmp_path: Path, byte_fallback: bool):
    folder = write_checkpoint(tmp_path / "checkpoint")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["byte_fallback"] = byte_fallback
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert config_of(folder)["tokenizer_info"] == {
        "token_postproc_method": "byte_fallback" if byte_fallback else "byte_level",
        "prepend_space_in_encode": byte_fallback,
        "strip_space_in_decode": byte_fallback,
    }
