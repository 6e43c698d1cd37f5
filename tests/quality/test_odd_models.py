"""Models that calibration could make worse: tokens that were never trained, values at float's ends."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.build.checkpoints import POCKET, write_checkpoint
from tests.build.conftest import run_build
from webbuild.calibration.corpus import TokenIds
from webbuild.checkpoint import open_checkpoint
from webbuild.effort import Rounding, open_float, open_quantizer
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.encode import round_scales
from webbuild.quantization.formats import Q4, Q8, TensorFormat, find_quantization
from webbuild.quantization.search import search_groups


def change(folder: Path, changes: dict[str, tuple[slice, float]]) -> Path:
    """The rows of tensors times numbers."""
    path = folder / "model.safetensors"
    tensors = dict(load_file(path))
    for name, (rows, factor) in changes.items():
        tensor = tensors[name].copy()
        tensor[rows] *= np.float32(factor)
        tensors[name] = tensor
    save_file(tensors, path)
    return folder


@pytest.mark.parametrize("effort", ["default", "best"])
@pytest.mark.parametrize("factor", [0, 1e-17, 1e-8])
def test_tokens_without_training_leave_the_others_as_good(
    tmp_path: Path, factor: float, effort: str
):
    """Rows of the embedding that are next to nothing, of tokens that the calibration text has."""
    sound = open_checkpoint(write_checkpoint(tmp_path / "sound"))
    ids = TokenIds(sound.chat).calibration(None, context=64, tokens=512)
    common = int(np.bincount(ids.reshape(-1)).argmax())
    odd = change(
        write_checkpoint(tmp_path / "odd"),
        {"model.embed_tokens.weight": (slice(common, common + 1), factor)},
    )
    errors = {}
    for source in (sound, open_checkpoint(odd)):
        formats = choose_formats(source.table, find_quantization("q4f16_1"))
        with open_quantizer(Rounding(effort), source, formats, pytest.fail) as quantizer:
            for spec in source.table:
                if formats.of(spec) == Q4 and ".0." in spec.name:
                    rows = open_float(source).weights.rows(spec.name)
                    rest = quantizer.quantize(spec, Q4, rows, 0).values(rows.shape[1]) - rows
                    errors.setdefault(spec.name, []).append(
                        float(np.square(rest).sum() / np.square(rows).sum())
                    )
    assert len(errors) == 4
    for name, (sound_error, odd_error) in errors.items():
        assert odd_error < 1.3 * sound_error, name


def test_what_float32_cannot_hold_is_rounded_without_the_text_and_told(tmp_path: Path):
    name = "model.layers.0.mlp.down_proj.weight"
    folder = change(write_checkpoint(tmp_path / "model"), {name: (slice(None), 1e30)})
    done = run_build(
        folder, "--target", "native", "--quant", "q4f32_1", "--no-measure", "-o", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "without the calibration text" in done.stderr
    assert "RuntimeWarning" not in done.stderr
    done = run_build(folder, "--target", "native", "--size", "10MB", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert "--size can't measure what" in done.stderr


@pytest.mark.parametrize(
    ("format", "largest", "most"),
    [(Q8, 1e-4, 0.005), (Q8, 1e-5, 0.008), (Q8, 1e-6, 0.04), (Q4, 1e-5, 0.1), (Q4, 1e-6, 0.1)],
    ids=str,
)
def test_small_weights_stay(format: TensorFormat, largest: float, most: float):
    """Their scales are among float16's subnormal numbers, 6e-8 apart."""
    weight = np.random.default_rng(8).uniform(-largest, largest, (64, 64)).astype(np.float32)
    stored = find_quantization("q4f16_1")
    found = search_groups(weight, format, lambda scales: round_scales(scales, stored)).values(64)
    assert np.sqrt(np.mean((found - weight) ** 2) / np.mean(weight**2)) < most


def test_a_short_calibration_text_is_told_before_work_begins(tmp_path: Path):
    text = tmp_path / "text.txt"
    for words, code, told in [
        ("word", 2, "says too little"),
        ("some words of a text " * 6, 0, "a few hundred words"),
    ]:
        text.write_text(words)
        options = ("--target", "native", "--calibration", text, "--no-measure")
        done = run_build(POCKET, *options, "-o", tmp_path / "out")
        assert done.returncode == code, done.stderr
        assert told in " ".join(done.stderr.split())
        if code:
            assert "writing" not in done.stderr
