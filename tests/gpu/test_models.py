"""Models of many widths on a GPU: prompts, second chunks, single tokens, forks, against transformers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.build.checkpoints import CONFIG
from tests.build.mlc_reader import read_tensors
from tests.gpu.models import (
    BINDING_BYTES,
    CHUNK,
    CONTEXT,
    MODELS,
    WIDE,
    Floats,
    GpuModel,
    build_model,
    target_name,
)
from webbuild.compiler import CompileOptions, compile_kernels
from webbuild.models.llama_spec import LlamaConfig, parameter_table
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import find_quantization
from webbuild.targets import profiles_for

TOKENS = np.random.default_rng(0).integers(3, 900, CHUNK + 8).tolist()
# Relative to the largest logit. Seen: 1.5e-6 and 9e-4.
TOLERANCE = {"f32": 2e-5, "f16": 4e-3}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(model: Callable[[str], GpuModel], name: str):
    built = model(name)
    expected = built.logits(TOKENS)
    runner = built.open_runner(sequences=2)

    def close(found: Floats, *positions: int) -> None:
        wanted = expected[list(positions)]
        tolerance = TOLERANCE[built.target.rpartition("-")[2]]
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()

    runner.add_sequence(0)
    close(runner.prefill([0], [TOKENS[:CHUNK]]), CHUNK - 1)
    close(runner.prefill([0], [TOKENS[CHUNK : CHUNK + 5]]), CHUNK + 4)
    close(runner.decode([0], [TOKENS[CHUNK + 5]]), CHUNK + 5)
    # Inside of a page, which is copied.
    runner.fork_sequence(0, 1, CHUNK + 3)
    together = [TOKENS[CHUNK + 6], TOKENS[CHUNK + 3]]
    close(runner.decode([0, 1], together), CHUNK + 6, CHUNK + 3)
    runner.pop(0, 3)
    close(runner.verify(0, TOKENS[CHUNK + 4 : CHUNK + 8]), *range(CHUNK + 4, CHUNK + 8))


@pytest.mark.parametrize("name", BINDING_BYTES)
def test_vocabularies_are_stored_whole_and_bound_in_pieces(
    model: Callable[[str], GpuModel], name: str
):
    built = model(name)
    stored = {name: len(values) for name, values in read_tensors(built.bundle).items()}
    pieces = built.pieces()
    assert {entry["name"].split(".")[-2] for entry in pieces} <= {"embed_tokens", "lm_head"}
    for each in {entry["name"] for entry in pieces}:
        begins = [(e["first_row"], e["shape"][0]) for e in pieces if e["name"] == each]
        ends = [first + rows for first, rows in begins]
        assert len(begins) > 1
        assert [0, *ends] == [*(first for first, _ in begins), stored[each]]
    bytes_of = [math.prod(e["shape"]) * np.dtype(e["dtype"]).itemsize for e in pieces]
    assert max(bytes_of) <= BINDING_BYTES[name]


@pytest.mark.usefixtures("device")
def test_mlcs_runtimes_get_parameters_as_they_are_stored(tmp_path: Path):
    assert build_model(tmp_path, "odd-pieces-f32", mlc_compatible=True).pieces() == []


@pytest.mark.parametrize("board", ["jetson-orin", "pi5"])
def test_boards_take_what_any_gpu_beside_an_arm_cpu_does(board: str):
    assert profiles_for(f"{board}-vulkan", "q4f16_1") == profiles_for("vulkan-aarch64", "q4f16_1")


def test_kernels_are_those_of_the_browsers_library():
    config = LlamaConfig.from_huggingface({**CONFIG, **WIDE})
    formats = choose_formats(parameter_table(config), find_quantization("q4f16_1"))
    options = CompileOptions(context_window_size=CONTEXT, prefill_chunk_size=CHUNK)
    browsers, own = (
        compile_kernels(config, formats, profile, options)
        for target in ("webgpu-f16", target_name("f16"))
        for profile in profiles_for(target, "q4f16_1")
    )
    assert len(own) > 30 and own == browsers
