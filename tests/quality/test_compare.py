"""`mlc-edge compare` beside transformers' logits and PyTorch's definitions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from mlc_edge.bundle import read_lock
from mlc_edge.model_runner import CacheSizes, ModelRunner
from tests.build.checkpoints import POCKET, write_checkpoint
from webbuild.calibration.corpus import FOLDER, HELD_OUT

ROOT = Path(__file__).parents[2]
TEXT = "What is the capital of France? It is Paris. Name three animals: a cat, a dog, a horse. " * 6


def run_compare(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mlc_edge", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(TEXT)
    return file


def bundle_logits(bundle: Path, windows: np.ndarray) -> np.ndarray:
    """float32 [windows, tokens, vocabulary]"""
    runner = ModelRunner(bundle, sizes=CacheSizes(1, 1024, 64))
    parts = []
    for ids in windows.tolist():
        runner.add_sequence(0)
        parts += [runner.verify(0, ids[at : at + 64]) for at in range(0, len(ids), 64)]
        runner.remove_sequence(0)
    return np.concatenate(parts).reshape(*windows.shape, -1)


def next_token_logs(logits: torch.Tensor) -> torch.Tensor:
    """[windows, tokens, vocabulary] to log probabilities [positions, vocabulary] of next tokens."""
    return torch.log_softmax(logits[:, :-1].double(), dim=-1).flatten(0, 1)


def test_numbers_are_those_of_transformers(pocket_bundle: Path, tmp_path: Path):
    picture, text_file = tmp_path / "picture.svg", tmp_path / "text.txt"
    tokenizer = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
    text = (FOLDER / HELD_OUT).read_text() + TEXT * 4
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = np.array(ids[: len(ids) // 512 * 512]).reshape(-1, 512)
    assert 1 < len(windows) <= 16
    text_file.write_text(text)
    result = run_compare(
        pocket_bundle, "--reference", POCKET, "--text", text_file, "--plot", picture, "--json"
    )
    assert result.returncode == 0, result.stderr
    text_file.unlink()
    found = json.loads(result.stdout)
    assert found["tokens"] == windows[:, 1:].size
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32)
        reference = next_token_logs(model(torch.tensor(windows)).logits)
    ours = next_token_logs(torch.tensor(bundle_logits(pocket_bundle, windows)))
    divergences = (reference.exp() * (reference - ours)).sum(dim=1)
    targets = torch.tensor(windows[:, 1:].flatten())
    assert found["kl"] == pytest.approx(divergences.mean().item(), rel=1e-2)
    assert found["kl_99th_percentile"] == pytest.approx(divergences.quantile(0.99).item(), rel=2e-2)
    for name, logs in (("reference_perplexity", reference), ("perplexity", ours)):
        expected = torch.nn.functional.nll_loss(logs, targets).exp().item()
        assert found[name] == pytest.approx(expected, rel=1e-2)
    same = (reference.argmax(dim=1) == ours.argmax(dim=1)).double().mean().item()
    assert found["top1_agreement"] == pytest.approx(same, abs=0.01)
    worst, place = found["worst_tokens"][0], int(divergences.argmax())
    assert worst["kl"] == pytest.approx(divergences[place].item(), rel=2e-2)
    window, before = divmod(place, 511)
    read = windows[window, : before + 1].tolist()
    names = {
        "context": read[-8:],
        "token": [targets[place].item()],
        "reference_choice": [reference[place].argmax().item()],
        "choice": [ours[place].argmax().item()],
    }
    for name, shown in names.items():
        assert worst[name] == tokenizer.decode(shown, skip_special_tokens=False), name
    assert (
        found["parameter_bytes"]
        == next(iter(read_lock(pocket_bundle).targets.values())).parameter_bytes
    )
    errors = [each["relative_error"] for each in found["worst_layers"]]
    assert errors == sorted(errors, reverse=True)
    assert 0.01 < errors[0] < 0.3
    assert "<svg" in picture.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["picture.svg"]


def test_floats_differ_in_nothing_and_say_so_to_people(tiny_bundle: Path):
    reference = tiny_bundle.with_name("tiny")
    result = run_compare(tiny_bundle, "--reference", reference)
    assert result.returncode == 0, result.stderr
    assert "KL divergence        0.0000 nats" in result.stdout
    assert "same first choice    100.0%" in result.stdout
    assert "0.0000  model.layers.0.self_attn.qkv_proj (q0)" in result.stdout


def test_a_bundle_for_browsers_is_compiled_for_this_machine(
    web_bundle: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run_compare(web_bundle, "--reference", POCKET, "--text", text_file, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["target"] == "native"
    # A text of less than a window: its tokens are all compared.
    tokenizer = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
    assert found["tokens"] == len(tokenizer.encode(TEXT, add_special_tokens=False).ids) - 1 < 511
    assert 1e-4 < found["kl"] < 0.6


def test_wrong_input_is_told(pocket_bundle: Path, text_file: Path, tmp_path: Path):
    other = write_checkpoint(tmp_path / "other")
    short = tmp_path / "short.txt"
    short.write_text("Hi.")
    cases = {
        "are different models (hidden_size": ("--reference", other),
        "is not a folder": ("--reference", tmp_path / "nowhere"),
        "can't be read as a text in UTF-8": (
            "--reference",
            POCKET,
            "--text",
            tmp_path / "none.txt",
        ),
        "says too little": ("--reference", POCKET, "--text", short),
        "name a file that ends in .svg or .png": ("--reference", POCKET, "--plot", "picture.gif"),
        "there is no folder": ("--reference", POCKET, "--plot", tmp_path / "no" / "picture.svg"),
    }
    for said, options in cases.items():
        result = run_compare(pocket_bundle, *options)
        assert (result.returncode, said in result.stderr) == (2, True), result.stderr


def test_another_tokenizer_is_told(pocket_bundle: Path, tmp_path: Path):
    for path in POCKET.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    result = run_compare(pocket_bundle, "--reference", tmp_path)
    assert result.returncode == 2
    assert "the tokenizers of" in result.stderr
