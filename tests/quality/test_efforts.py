"""What each effort makes of a checkpoint, down to the bytes, and `build`'s flags for it."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlc_edge.bundle import read_lock
from mlc_edge.errors import CheckpointError, ConfigError
from tests.build.checkpoints import POCKET, write_checkpoint
from tests.build.conftest import run_build
from tests.quality.checkpoints import write_sensitive_checkpoint
from webbuild.calibration.corpus import FOLDER, HELD_OUT, TEXT, TokenIds, read_text
from webbuild.calibration.statistics import Statistics
from webbuild.checkpoint import Checkpoint, open_checkpoint
from webbuild.effort import Effort, Rounding, open_float, open_quantizer
from webbuild.parallel import cpu_count, worker_threads
from webbuild.quality.measure import agreement, hidden_states
from webbuild.quality.stored_weights import StoredWeights
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import Q4, find_quantization
from webbuild.tensor_cache import plan_weights, write_weights


def write(source: Checkpoint, folder: Path, effort: Effort, quantization: str = "q4f16_1") -> None:
    formats = choose_formats(source.table, find_quantization(quantization))
    plan = plan_weights(source.table, formats)
    folder.mkdir()
    with open_quantizer(Rounding(effort), source, formats, pytest.fail) as quantizer:
        write_weights(folder, plan, source.tensors, quantizer, lambda _: None)


def divergence(source: Checkpoint, folder: Path, file: str) -> float:
    """KL on one of the project's texts."""
    tokens = TokenIds(source.chat).sequences(read_text(FOLDER / file), length=256, count=4)
    reference = open_float(source)
    rounded = replace(reference, weights=StoredWeights(folder, source.table))
    with worker_threads() as threads:
        return agreement(reference, rounded, tokens, threads).mean_divergence


def test_more_effort_is_nearer(tmp_path: Path):
    source = open_checkpoint(POCKET)
    found: dict[str, float] = {}
    efforts: tuple[Effort, ...] = ("fast", "default", "best")
    for effort in efforts:
        write(source, tmp_path / effort, effort)
        found[effort] = divergence(source, tmp_path / effort, TEXT)
    write(source, tmp_path / "q8", "default", "q8f16")
    assert found["default"] < 0.98 * found["fast"]
    # Error feedback, not only more of the text.
    assert found["best"] < 0.7 * found["default"]
    assert divergence(source, tmp_path / "q8", HELD_OUT) < 0.01


@pytest.mark.parametrize("effort", ["default", "best"])
def test_the_number_of_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effort: Effort
):
    source = open_checkpoint(write_checkpoint(tmp_path / "model"))
    for count in (1, 5):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)))
        assert cpu_count() == count
        write(source, tmp_path / str(count), effort)
    one, five = (sorted((tmp_path / str(count)).iterdir()) for count in (1, 5))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in five]


@pytest.mark.parametrize("products", [False, True])
def test_statistics_have_the_same_bits_on_any_number_of_cpus(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, products: bool
):
    model = open_float(open_checkpoint(checkpoint))
    tokens = np.random.default_rng(0).integers(0, 1024, (9, 200))
    found = []
    for count in (1, 5):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)))
        with worker_threads() as threads:
            statistics = Statistics(model, tokens, threads, products=products)
            names = [name for index in range(model.layers) for name in model.linears(index)]
            found.append([statistics.of(name) for name in (*names, model.head)])
    for one, five in zip(*found, strict=True):
        np.testing.assert_array_equal(one, five)


def test_statistics_are_those_of_the_inputs_in_any_order(tmp_path: Path):
    model = open_float(open_checkpoint(write_checkpoint(tmp_path / "model")))
    # In three batches, the last of which isn't full.
    tokens = np.random.default_rng(0).integers(0, 1024, (5, 200))
    hidden = model.embed(tokens)
    expected: dict[str, np.ndarray] = {}
    for index in range(model.layers):
        squares = np.mean(hidden.astype(np.float64) ** 2, axis=-1).reshape(-1, 1)
        counts = 1 / (np.maximum(squares, np.median(squares) / 16) + 1e-5)

        def take(name: str, inputs: np.ndarray, counts: np.ndarray = counts) -> None:
            expected[name] = (counts * inputs).T @ inputs.astype(np.float64) / counts.sum()

        hidden = model.layer(index, hidden, take)
    read = model.norm(hidden).reshape(-1, 64).astype(np.float64)
    expected[model.head] = read.T @ read / len(read)
    with worker_threads() as threads:
        products = Statistics(model, tokens, threads, products=True)
        squares = Statistics(model, tokens, threads, products=False)
        for name in (model.head, *list(expected)[::-1], *expected):
            np.testing.assert_allclose(products.of(name), expected[name], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(squares.of(name), np.diag(expected[name]), rtol=1e-4)


def test_tables_of_four_bits_are_rounded_by_what_they_read(tmp_path: Path):
    """A head by its inputs; an embedding, whose rows nothing multiplies, by nothing."""
    source = open_checkpoint(write_sensitive_checkpoint(tmp_path / "model"))
    table = {spec.name: spec for spec in source.table}
    formats = choose_formats(source.table, find_quantization("q4"), mlc_compatible=True)
    model = open_float(source)
    tokens = TokenIds(source.chat).calibration(None, context=256, tokens=2048)
    read = hidden_states(model, tokens).reshape(-1, 64)
    rows = {name: model.weights.rows(name) for name in (model.head, model.embedding)}
    plain, found = {}, {}
    with open_quantizer(Rounding("fast"), source, formats, pytest.fail) as quantizer:
        for name, values in rows.items():
            plain[name] = quantizer.quantize(table[name], Q4, values, 0).values(64)
    for effort in ("default", "best"):
        with open_quantizer(Rounding(effort), source, formats, pytest.fail) as quantizer:
            for name, values in rows.items():
                found[name] = quantizer.quantize(table[name], Q4, values, 0).values(64)
        np.testing.assert_array_equal(found[model.embedding], plain[model.embedding])
        errors = [
            np.linalg.norm(read @ (rows[model.head] - each[model.head]).T)
            for each in (found, plain)
        ]
        assert errors[0] < 0.99 * errors[1], effort


def test_a_model_that_cannot_read_the_text_is_rounded_without(tmp_path: Path):
    source = open_checkpoint(write_checkpoint(tmp_path / "model"))
    damaged = replace(source, chat=replace(source.chat, tokenizer={"model": {"vocab": {}}}))
    formats = choose_formats(source.table, find_quantization("q4f16_1"))
    told: list[str] = []
    with open_quantizer(Rounding(), damaged, formats, told.append) as quantizer:
        spec = source.table[1]
        rows = np.random.default_rng(0).standard_normal(spec.shape).astype(np.float32)
        groups = quantizer.quantize(spec, formats.of(spec), rows, 0)
        assert not quantizer.is_calibrated
    assert np.abs(groups.values(spec.shape[1]) - rows).mean() < 0.1
    assert "without a calibration text" in told[0]
    assert "tokenizer.json can't be used" in told[0]
    given = Rounding(calibration=FOLDER / TEXT)
    with pytest.raises(CheckpointError), open_quantizer(given, damaged, formats, told.append):
        pass
    with open_quantizer(Rounding("fast"), damaged, formats, pytest.fail):
        pass


def test_texts_begin_as_the_engines_prompts_do(tmp_path: Path):
    source = open_checkpoint(write_checkpoint(tmp_path / "model"))
    first, last = 1, 2
    special = {
        name: {"id": name, "ids": [id], "tokens": [name]}
        for name, id in (("first", first), ("last", last))
    }
    ends = [{"SpecialToken": {"id": name, "type_id": 0}} for name in special]
    template = {
        "type": "TemplateProcessing",
        "single": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]],
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": special,
    }
    chat = replace(source.chat, tokenizer={**source.chat.tokenizer, "post_processor": template})
    (ids,) = TokenIds(chat).sequences("b " * 30, length=20, count=1)
    assert ids[0] == first and last not in ids


def test_a_short_text_says_too_little(tmp_path: Path):
    ids = TokenIds(open_checkpoint(write_checkpoint(tmp_path / "model")).chat)
    with pytest.raises(ConfigError, match="says too little"):
        ids.sequences("Hi.", length=64, count=1)
    assert ids.sequences("word " * 30, length=512, count=3).shape[0] == 1
    assert ids.sequences("word " * 300, length=20, count=3).shape == (3, 20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--quant-effort", "much"), "--quant-effort 'much': use one of fast, default, best"),
        (("--calibration", "nowhere.txt"), "nowhere.txt can't be read as a text in UTF-8"),
        (("--size", "12 parsecs"), "--size '12 parsecs': write a size such as 95MB"),
        (("--size", "10kB"), "bytes, and the weights take"),
        (("--size", "1MB", "--quant-effort", "fast"), "leave --mlc-compatible and --quant-effort"),
        (("--size", "1MB", "--quant", "q8"), "--quant q8 names another"),
        (("--calibration", str(FOLDER / TEXT), "--quant-effort", "fast"), "needs no text"),
    ],
)
def test_wrong_flags_are_told(
    checkpoint: Path, tmp_path: Path, options: tuple[str, ...], said: str
):
    result = run_build(checkpoint, "--target", "native", *options, "-o", tmp_path / "out")
    assert result.returncode == 2
    assert said in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_size_chooses_formats(checkpoint: Path, tmp_path: Path):
    output = tmp_path / "tiny"
    options = ("--target", "native", "--target", "webgpu-software-f32", "--quant", "q4f32_1")
    result = run_build(checkpoint, *options, "--size", "135kB", "-o", output)
    assert result.returncode == 0, result.stderr
    assert "against the floats: KL" in result.stdout
    lock = read_lock(output)
    assert {"q4m", "q8"} & lock.model.formats.keys()
    # Scales of two bytes on disk have four in the parameter set of CPUs.
    sizes = [sum(f.stat().st_size for f in output.glob(f"{s}params_*")) for s in ("", "cpu/")]
    assert sizes[0] < sizes[1] and 115_000 < sizes[1] <= 135_000


def test_a_size_leaves_rules_alone(tmp_path: Path):
    tied = write_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    options = (
        "--target",
        "native",
        "--quant-rule",
        "lm_head=q8",
        "--size",
        "110kB",
        "--no-measure",
    )
    result = run_build(tied, *options, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "against the floats" not in result.stdout
    (records,) = (
        shard["records"]
        for shard in json.loads((tmp_path / "out/cpu/tensor-cache.json").read_text())["records"]
    )
    (table,) = (r for r in records if r["name"] == "model.embed_tokens.q_weight")
    assert table["shape"][-1] == 512


def test_the_text_is_part_of_the_build(checkpoint: Path, tmp_path: Path):
    """Built again when the text changes, and only then; other words, other weights."""
    text, output = tmp_path / "text.txt", tmp_path / "tiny"
    shutil.copyfile(FOLDER / HELD_OUT, text)
    options = ("--target", "native", "--calibration", text, "-o", output)
    first = run_build(checkpoint, *options)
    assert first.returncode == 0, first.stderr
    weights = (output / "cpu" / "params_shard_0.bin").read_bytes()
    note = json.loads((output / "mlc-chat-config.json").read_text())["rounding"]
    text_hash = hashlib.sha256(text.read_bytes()).hexdigest()
    assert note == {"effort": "default", "calibration_sha256": text_hash}
    assert "up to date" in run_build(checkpoint, *options).stdout
    text.write_text("0 1 2 3 4 5 6 7 8 9 " * 200)
    assert "up to date" not in run_build(checkpoint, *options).stdout
    assert (output / "cpu" / "params_shard_0.bin").read_bytes() != weights
