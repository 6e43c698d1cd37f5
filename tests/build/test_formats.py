"""Which weight is stored in which format, through the command line; and again from a finished bundle."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge.bundle import read_lock
from mlc_edge.errors import ConfigError
from tests.build.checkpoints import write_checkpoint
from tests.build.conftest import run_build
from tests.build.mlc_reader import read_tensors
from tests.build.nearest import NearestQuantizer
from webbuild.checkpoint import open_checkpoint
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.choices import QuantRule, choose_formats
from webbuild.quantization.formats import (
    Q4,
    Q8,
    QUANTIZATIONS,
    WeightFormats,
    find_quantization,
)
from webbuild.tensor_cache import plan_weights, write_weights


def stored_formats(folder: Path) -> dict[str, str]:
    """Each layer's format, by the widths of its tensors."""
    tensors = read_tensors(folder)
    found = {}
    for name, words in tensors.items():
        layer, _, part = name.rpartition(".")
        if part == "q_weight":
            bits = words.shape[1] // tensors[f"{layer}.q_scale"].shape[1]
            found[layer] = f"q{bits}" + ("m" if f"{layer}.q_minimum" in tensors else "")
        elif "norm" not in layer:
            found.setdefault(layer, "q0")
    return found


def formats_of(
    checkpoint: Path, folder: Path, *rules: str, mlc_compatible: bool = False
) -> dict[str, str]:
    source, q4 = open_checkpoint(checkpoint), QUANTIZATIONS["q4f16_1"]
    chosen = tuple(map(QuantRule.parse, rules))
    formats = choose_formats(source.table, q4, rules=chosen, mlc_compatible=mlc_compatible)
    plan = plan_weights(source.table, formats)
    write_weights(folder, plan, source.tensors, NearestQuantizer(q4), lambda _: None)
    return stored_formats(folder)


def built(source: Path, output: Path, target: str, *options: str) -> Path:
    result = run_build(source, "--target", target, *options, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


def test_rules_prevail_the_last_one_most(checkpoint: Path, tmp_path: Path):
    rules = ["*_proj=q4m", "down_proj=q8", "model.layers.0.mlp.down_proj=q0", "lm_head=q4"]
    found = formats_of(checkpoint, tmp_path, *rules)
    assert found["lm_head"] == "q4" and found["model.embed_tokens"] == "q8"
    assert found["model.layers.0.mlp.down_proj"] == "q0"
    assert found["model.layers.1.mlp.down_proj"] == "q8"
    assert found["model.layers.1.self_attn.qkv_proj"] == "q4m"


def test_the_head_of_tied_embeddings_is_their_table(tmp_path: Path):
    tied = write_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    assert formats_of(tied, tmp_path, "lm_head=q4m")["model.embed_tokens"] == "q4m"


def test_a_name_matches_as_a_whole(checkpoint: Path):
    for pattern in ("head", "v_proj", "0.mlp"):
        with pytest.raises(ConfigError, match="the model has no such weight"):
            choose(checkpoint, "q4", f"{pattern}=q8")
    changed = choose(checkpoint, "q4", "mlp.down_proj=q0").exceptions
    assert {f"model.layers.{index}.mlp.down_proj.weight" for index in (0, 1)} < changed.keys()


def test_weights_are_counted_by_format(checkpoint: Path):
    table = open_checkpoint(checkpoint).table
    layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 80
    expected = {"q0": 5 * 64, "q4": 2 * layer, "q8": 2 * 1024 * 64}
    assert choose(checkpoint, "q4").counts(table) == expected


def test_each_choice_has_a_description_of_its_own(checkpoint: Path):
    """Bundles are built again where it changes."""
    rules = [(), ("lm_head=q4",), ("lm_head=q4m",), ("embed_tokens=q4m",), ("o_proj=q8",)]
    told = [choose(checkpoint, "q8" if each else "q4", *each).describe() for each in rules]
    told += [choose(checkpoint, "q4", *each).describe() for each in rules[1:]]
    assert len(set(told)) == len(told)
    both = ("o_proj=q8", "down_proj=q4m")
    one, other = (choose(checkpoint, "q4", *each) for each in (both, both[::-1]))
    assert one.describe() == other.describe() != told[0]


def choose(checkpoint: Path, quantization: str, *rules: str) -> WeightFormats:
    table = open_checkpoint(checkpoint).table
    chosen = tuple(map(QuantRule.parse, rules))
    return choose_formats(table, find_quantization(quantization), rules=chosen)


def test_floats_are_a_format_of_mlcs_too(checkpoint: Path):
    table = open_checkpoint(checkpoint).table
    found = choose_formats(table, QUANTIZATIONS["q0f16"], mlc_compatible=True)
    assert found.counts(table).keys() == {"q0"}


def test_mlc_has_4_bits_for_tables_too(checkpoint: Path, tmp_path: Path):
    assert set(formats_of(checkpoint, tmp_path, mlc_compatible=True).values()) == {"q4"}


def test_one_flag_makes_all_formats_mlcs(checkpoint: Path, tmp_path: Path):
    bundle = built(checkpoint, tmp_path / "mlc", "webgpu-software-f32", "--mlc-compatible")
    assert set(stored_formats(bundle).values()) == {"q4"}


def test_a_bundle_keeps_its_formats_and_says_so(checkpoint: Path, tmp_path: Path):
    rules = ["--quant-rule", "down_proj=q8", "--quant-rule", "o_proj=q4m"]
    one = built(checkpoint, tmp_path / "one", "webgpu-software-f32", *rules)
    found = stored_formats(one)
    assert found["lm_head"] == found["model.embed_tokens"] == "q8"
    assert found["model.layers.0.mlp.down_proj"] == "q8"
    assert found["model.layers.0.self_attn.o_proj"] == "q4m"
    assert found["model.layers.0.mlp.gate_up_proj"] == "q4"
    lock = read_lock(one)
    assert sum(lock.model.formats.values()) == lock.model.parameters
    assert lock.model.formats["q8"] > 2 * 32 * 64
    # To the interleaved set, and from that alone back to the standard one.
    two = built(one, tmp_path / "two", "x86-64")
    three = built(two, tmp_path / "three", "webgpu-software-f32")
    assert read_lock(two).model.formats == read_lock(three).model.formats == lock.model.formats
    names = [path.name for path in three.glob("params_shard_*.bin")]
    assert names and all((three / n).read_bytes() == (one / n).read_bytes() for n in names)
    refused = run_build(one, "--quant-rule", "lm_head=q4", "-o", tmp_path / "four")
    assert refused.returncode == 2 and "stay as they are" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--quant-rule", "lm_head"], "write a layer's name"),
        (["--quant-rule", "lm_head=q5"], "one of q0, q4, q4m, q8"),
        (["--quant-rule", "q_proj=q8"], "it has down_proj, embed_tokens, gate_up_proj, lm_head"),
        (["--quant-rule", "lm_head=q8", "--mlc-compatible"], "exclude each other"),
        (["--quant", "q8", "--mlc-compatible"], "no format of MLC's"),
    ],
)
def test_rules_that_make_no_sense_are_named(
    checkpoint: Path, tmp_path: Path, options: list[str], told: str
):
    result = run_build(checkpoint, *options, "-o", tmp_path / "out")
    assert result.returncode == 2
    assert told in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_vocabulary_tables_of_large_models_have_4_bits():
    rows = math.ceil(3e9 / 4096)
    table = [
        ParameterSpec("embed.weight", (100, 4096), ("e",), quantized=True, vocabulary=True),
        ParameterSpec("layer.weight", (rows, 4096), ("l",), quantized=True),
    ]
    q4 = QUANTIZATIONS["q4f16_1"]
    assert choose_formats(table, q4).of(table[0]) == Q4
    smaller = [table[0], replace(table[1], shape=(rows - 101, 4096))]
    assert choose_formats(smaller, q4).of(table[0]) == Q8
    assert choose_formats(table[:1], q4).of(table[0]) == Q8
    assert choose_formats(table[:1], QUANTIZATIONS["q0f16"]).exceptions == {}
