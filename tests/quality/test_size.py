"""What rounding single weights costs, beside transformers, and the formats that `--size` chooses by it."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from mlc_edge.errors import ConfigError
from tests.build.checkpoints import write_checkpoint
from tests.build.nearest import NearestQuantizer
from tests.gguf.writing import WIDE, write_gguf
from tests.quality.checkpoints import write_sensitive_checkpoint
from webbuild.calibration.corpus import FOLDER, HELD_OUT
from webbuild.checkpoint import Checkpoint, open_checkpoint
from webbuild.effort import Rounding, open_float
from webbuild.gguf.checkpoint import open_gguf
from webbuild.interleaved import interleave
from webbuild.models import llama_float
from webbuild.models.llama_float import FloatModel
from webbuild.parallel import worker_threads
from webbuild.quality.sensitivity import POSITION_STEP, measure_sensitivities
from webbuild.quantization.choices import QuantRule, choose_formats
from webbuild.quantization.formats import Q4, Q4M, Q8, WeightFormats, find_quantization
from webbuild.size import formats_for_size
from webbuild.tensor_cache import plan_weights, write_weights


def coarse(values: np.ndarray) -> np.ndarray:
    """To a few numbers, which costs each weight enough to be seen."""
    return (np.rint(values * 20) / 20).astype(np.float32)


@pytest.mark.parametrize("tied", [False, True])
def test_each_weight_costs_what_it_costs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
):
    monkeypatch.setattr(llama_float, "VOCABULARY_BLOCK", 300)
    folder = write_sensitive_checkpoint(tmp_path / "model", tie_word_embeddings=tied)
    source = open_checkpoint(folder)
    tokens = np.random.default_rng(0).integers(0, 1024, (1, 41))
    weights = open_float(source).weights
    with worker_threads() as threads:
        found = measure_sensitivities(
            lambda each: FloatModel(source.model, each),
            weights,
            tokens,
            lambda name: coarse(weights.rows(name)),
            threads,
        )
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    parameters = dict(model.named_parameters())

    def logs() -> torch.Tensor:
        logits = model(torch.tensor(tokens)).logits[0, :-1:POSITION_STEP]
        return torch.log_softmax(logits.double(), dim=1)

    with torch.no_grad():
        own = logs()
        assert found.keys() == {spec.name for spec in source.table if spec.quantized}
        for spec in source.table:
            if not spec.quantized:
                continue
            before = {name: parameters[name].clone() for name in spec.sources}
            for name, values in before.items():
                parameters[name].copy_(torch.from_numpy(coarse(values.numpy())))
            changed = logs()
            for name, values in before.items():
                parameters[name].copy_(values)
            expected = (own.exp() * (own - changed)).sum(dim=1).mean().item()
            assert found[spec.name] == pytest.approx(expected, rel=1e-2, abs=1e-8), spec.name
            assert expected > 1e-4


def chosen(
    source: Checkpoint, size: int, interleaved: Collection[bool], quantization: str = "q4f32_1"
) -> WeightFormats:
    return formats_for_size(
        source,
        choose_formats(source.table, find_quantization(quantization)),
        size=size,
        rounding=Rounding(calibration=FOLDER / HELD_OUT),
        interleaved=interleaved,
    )


def written_bytes(source: Checkpoint, formats: WeightFormats, folder: Path) -> tuple[int, int]:
    """Of the standard and of the interleaved parameter set."""
    folder.mkdir()
    plan = plan_weights(source.table, formats)
    quantizer = NearestQuantizer(formats.quantization)
    write_weights(folder, plan, source.tensors, quantizer, lambda _: None)
    interleave(folder, lambda _: None)
    sets = (folder.glob("params_*"), folder.glob("cpu/params_*"))
    standard, interleaved = (sum(path.stat().st_size for path in files) for files in sets)
    return standard, interleaved


@pytest.mark.parametrize("interleaved", [{False}, {True}, {False, True}], ids=str)
def test_files_have_at_most_the_size(
    checkpoint: Path, tmp_path: Path, interleaved: Collection[bool]
):
    source = open_checkpoint(checkpoint)
    for size in range(125_000, 250_000, 25_000):
        formats = chosen(source, size, interleaved)
        standard, cpu = written_bytes(source, formats, tmp_path / str(size))
        found = cpu if True in interleaved else standard
        # The next format of the smallest weight is a few thousand bytes more.
        assert 0.9 * size < found <= size or set(formats.counts(source.table)) == {"q0", "q8"}


def least_size(source: Checkpoint, interleaved: Collection[bool], quantization: str) -> int:
    """What is told to who asks for too little."""
    with pytest.raises(ConfigError, match=r"take [0-9,]+ at least") as error:
        chosen(source, 1000, interleaved, quantization)
    return int(str(error.value).split("take ")[1].split(" ")[0].replace(",", ""))


def test_room_is_left_between_tensors(tmp_path: Path):
    """Those of CPUs begin at multiples of 64 bytes; norms of this width end between two."""
    source = open_checkpoint(write_checkpoint(tmp_path / "model", hidden_size=72))
    least = least_size(source, {True}, "q4f16_1")
    _, found = written_bytes(source, chosen(source, least, {True}, "q4f16_1"), tmp_path / "least")
    assert 0.99 * least < found <= least


def test_the_least_size_is_the_one_that_is_told(checkpoint: Path):
    source = open_checkpoint(checkpoint)
    least = least_size(source, {False}, "q4f32_1")
    assert chosen(source, least, {False}).counts(source.table).keys() == {"q0", "q4"}
    with pytest.raises(ConfigError):
        chosen(source, least - 1, {False})
    assert least == bytes_in_four_bits(source)


def bytes_in_four_bits(source: Checkpoint) -> int:
    """Half a byte a weight, two a group's scale, four an element of a norm."""
    total = 0
    for spec in source.table:
        if spec.quantized:
            rows, columns = spec.shape
            total += rows * -(-columns // 32) * (16 + 2)
        else:
            total += 4 * spec.weights
    return total


def test_what_the_file_has_in_four_bits_takes_no_more(tmp_path: Path):
    write_gguf(
        tmp_path / "model.gguf",
        WIDE,
        types=lambda name: Type.Q4_0 if "ffn_down" in name else Type.Q4_1,
    )
    source = open_gguf(tmp_path / "model.gguf")
    formats = chosen(source, 10**8, {False}, "q4f16_1")
    found = {spec.name: formats.of(spec) for spec in source.table if spec.quantized}
    assert found.keys() > {"lm_head.weight", "model.embed_tokens.weight"}
    for name, format in found.items():
        assert format == (Q4 if "down_proj" in name else Q4M), name


def test_bytes_go_where_they_change_answers(tmp_path: Path):
    folder = write_sensitive_checkpoint(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    idle = "model.layers.0.mlp.down_proj.weight"
    tensors[idle] *= 1e-4
    save_file(tensors, folder / "model.safetensors")
    source = open_checkpoint(folder)
    # What is left of all in 8 bits when one weight keeps 4.
    formats = chosen(source, 10**8, {False})
    most = sum(t.stored_bytes for spec in source.table for t in formats.output_tensors(spec))
    formats = chosen(source, most - 64 * 2 * 32 // 2, {False})
    assert {name for name, format in formats.exceptions.items() if format == Q8} == {
        spec.name for spec in source.table if spec.quantized and spec.name != idle
    }


def test_what_is_settled_stays(checkpoint: Path):
    source = open_checkpoint(checkpoint)
    q4 = find_quantization("q4f32_1")
    formats = choose_formats(source.table, q4, rules=[QuantRule.parse("o_proj=q4m")])
    settled = [spec.name for spec in source.table if "o_proj" in spec.name]
    found = formats_for_size(
        source,
        formats,
        size=10**8,
        rounding=Rounding(),
        interleaved={True},
        settled=[*settled, "lm_head.weight"],
    )
    kept = {*settled, "lm_head.weight"}
    for spec in source.table:
        if spec.quantized:
            assert found.of(spec) == (formats.of(spec) if spec.name in kept else Q8)


def test_room_for_all_makes_all_eight_bits(checkpoint: Path):
    source = open_checkpoint(checkpoint)
    formats = chosen(source, 10**8, {False, True})
    assert {formats.of(spec) for spec in source.table if spec.quantized} == {Q8}
