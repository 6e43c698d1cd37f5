"""Which formats the weights of GGUF files get, and what is said of those that lose something."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from mlc_edge.errors import CheckpointError
from tests.build.mlc_reader import layer_weight, read_tensors
from tests.build.nearest import NearestQuantizer
from tests.gguf.writing import WIDE, write_gguf
from webbuild.checkpoint import Checkpoint
from webbuild.gguf.checkpoint import open_gguf
from webbuild.gguf.header import read_header
from webbuild.gguf.native import fitted, native_formats, native_quantization, rounding_warnings
from webbuild.quantization.choices import QuantRule, choose_formats
from webbuild.quantization.encode import encode_rows, is_rounded
from webbuild.quantization.formats import (
    Q4,
    Q4M,
    Q8,
    TensorFormat,
    WeightFormats,
    find_quantization,
)
from webbuild.tensor_cache import plan_weights, write_weights

QKV = "model.layers.{}.self_attn.qkv_proj.weight"


def opened(tmp_path: Path, types: Callable[[str], Type]) -> Checkpoint:
    path = tmp_path / "model.gguf"
    write_gguf(path, WIDE, types=types)
    return open_gguf(path)


def native(checkpoint: Checkpoint) -> dict[str, TensorFormat]:
    return native_formats(checkpoint.table, checkpoint.tensors)


def chosen(checkpoint: Checkpoint, *rules: str) -> WeightFormats:
    formats = native(checkpoint)
    return choose_formats(
        checkpoint.table,
        native_quantization(checkpoint.table, formats),
        native=formats,
        rules=[QuantRule.parse(rule) for rule in rules],
    )


def warnings(checkpoint: Checkpoint, formats: WeightFormats) -> list[str]:
    return rounding_warnings(checkpoint.table, checkpoint.tensors, formats)


@pytest.mark.parametrize(
    ("kind", "format", "name"),
    [
        (Type.Q4_0, Q4, "q4f16_1"),
        (Type.Q4_1, Q4M, "q4mf16"),
        (Type.Q5_0, Q8, "q8f16"),
        (Type.Q8_0, Q8, "q8f16"),
        (Type.IQ4_NL, Q8, "q8f16"),
    ],
)
def test_a_type_with_a_format_is_taken_as_it_is(
    tmp_path: Path, kind: Type, format: TensorFormat, name: str
):
    checkpoint = opened(tmp_path, lambda _: kind)
    quantized = {spec.name for spec in checkpoint.table if spec.quantized}
    assert native(checkpoint) == dict.fromkeys(quantized, format)
    formats = chosen(checkpoint)
    assert formats.quantization.name == name
    assert all(formats.of(spec) == format for spec in checkpoint.table if spec.quantized)
    assert warnings(checkpoint, formats) == []


def test_floats_are_quantised_as_those_of_checkpoints(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.BF16)
    assert native(checkpoint) == {}
    formats = choose_formats(checkpoint.table, find_quantization("q4"))
    assert warnings(checkpoint, formats) == []


def test_products_of_scales_are_told(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.Q4_K)
    formats = chosen(checkpoint)
    assert formats.quantization.name == "q4mf16"
    assert warnings(checkpoint, formats) == [
        "16 weights are Q4_K: levels are taken as they are, scales, which are products in the file, are "
        "rounded to float16."
    ]


def test_coarser_scales_are_told(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.Q4_0)
    formats = choose_formats(checkpoint.table, find_quantization("q4f32_1"), mlc_compatible=True)
    assert warnings(checkpoint, formats) == [
        "16 weights are Q4_0: levels are taken as they are, scales are rounded to bfloat16."
    ]


def test_coarser_scales_are_the_nearest(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.Q4_0)
    formats = choose_formats(checkpoint.table, find_quantization("q4f32_1"), mlc_compatible=True)
    plan = plan_weights(checkpoint.table, formats)
    quantizer = NearestQuantizer(formats.quantization)
    write_weights(tmp_path, plan, checkpoint.tensors, quantizer, lambda count: None)
    found = read_tensors(tmp_path)["model.embed_tokens.q_scale"]
    own = checkpoint.tensors["model.embed_tokens.weight"].read_groups(0, 1024).scales
    np.testing.assert_array_equal(found, torch.tensor(own).bfloat16().float().numpy())


def test_types_without_a_kernel_become_q8(tmp_path: Path):
    def types(name: str) -> Type:
        return Type.Q6_K if name in ("output.weight", "blk.1.ffn_down.weight") else Type.Q4_1

    checkpoint = opened(tmp_path, types)
    formats = chosen(checkpoint)
    assert formats.quantization.name == "q4mf16"
    assert dict(formats.exceptions) == {
        "lm_head.weight": Q8,
        "model.layers.1.mlp.down_proj.weight": Q8,
    }
    assert warnings(checkpoint, formats) == [
        "2 weights are Q6_K, for which there is no kernel: rounded again, to q8."
    ]


def test_what_is_fused_of_two_types_takes_the_format_that_holds_both(tmp_path: Path):
    def types(name: str) -> Type:
        return Type.Q8_0 if "attn_v" in name else Type.Q4_0

    checkpoint = opened(tmp_path, types)
    formats = chosen(checkpoint)
    assert dict(formats.exceptions) == {QKV.format(0): Q8, QKV.format(1): Q8}
    assert warnings(checkpoint, formats) == []
    tensors = fitted(checkpoint.table, checkpoint.tensors, formats)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert tensors[name].group_format == Q8
    np.testing.assert_array_equal(
        tensors[name].read_groups(3, 40).values(256), checkpoint.tensors[name].read_rows(3, 40)
    )
    # Where four bits stay, so do the groups.
    assert tensors["model.layers.0.self_attn.o_proj.weight"].group_format == Q4


def test_what_no_format_holds_together_is_rounded_to_q8(tmp_path: Path):
    def types(name: str) -> Type:
        return Type.Q6_K if name == "blk.0.attn_v.weight" else Type.Q4_1

    checkpoint = opened(tmp_path, types)
    formats = chosen(checkpoint)
    assert dict(formats.exceptions) == {QKV.format(0): Q8}
    assert warnings(checkpoint, formats) == [
        "2 weights are Q4_1, fused with weights of other types: rounded again, to q8.",
        "1 weight is Q6_K, for which there is no kernel: rounded again, to q8.",
    ]


def test_what_is_asked_for_in_another_format_is_rounded_twice(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.Q4_1)
    asked = choose_formats(checkpoint.table, find_quantization("q4"))
    assert warnings(checkpoint, asked) == [
        "14 weights are Q4_1 in the file and q4 in the bundle: rounded twice.",
        "2 weights are Q4_1 in the file and q8 in the bundle: rounded twice.",
    ]
    assert warnings(checkpoint, chosen(checkpoint, "lm_head=q8")) == [
        "1 weight is Q4_1 in the file and q8 in the bundle: rounded twice."
    ]
    assert warnings(checkpoint, chosen(checkpoint, "lm_head=q0")) == [
        "1 weight is Q4_1: values are rounded to float16."
    ]
    floats = choose_formats(checkpoint.table, find_quantization("q0f32"))
    assert warnings(checkpoint, floats) == []


def test_only_what_loses_its_levels_is_rounded(tmp_path: Path):
    def types(name: str) -> Type:
        return {"blk.0.attn_v.weight": Type.Q8_0, "output.weight": Type.Q6_K}.get(name, Type.Q4_0)

    checkpoint = opened(tmp_path, types)

    def rounded(formats: WeightFormats) -> set[str]:
        sources = fitted(checkpoint.table, checkpoint.tensors, formats)
        return {spec.name for spec in checkpoint.table if is_rounded(spec, sources, formats)}

    head = "lm_head.weight"
    assert rounded(chosen(checkpoint)) == {head}
    assert rounded(chosen(checkpoint, "lm_head=q0")) == set()
    assert rounded(chosen(checkpoint, "model.layers.0.self_attn.qkv_proj=q4")) == {
        head,
        QKV.format(0),
    }


def test_levels_of_another_format_are_found_anew(tmp_path: Path):
    checkpoint = opened(tmp_path, lambda _: Type.Q4_1)
    formats = chosen(checkpoint, "lm_head=q8", "down_proj=q4")
    plan = plan_weights(checkpoint.table, formats)
    sources = fitted(checkpoint.table, checkpoint.tensors, formats)
    quantizer = NearestQuantizer(formats.quantization)
    write_weights(tmp_path, plan, sources, quantizer, lambda _: None)
    stored = read_tensors(tmp_path)
    for layer, levels in (("lm_head", 127), ("model.layers.0.mlp.down_proj", 7)):
        exact = checkpoint.tensors[f"{layer}.weight"].read_rows(0, 256)
        found = layer_weight(layer, stored, exact.shape[1])[:256]
        assert np.abs(found - exact).max() < 0.51 * np.abs(exact).max() / levels


def test_a_damaged_scale_is_named(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path, WIDE, types=lambda _: Type.Q8_0)
    name, rows = "model.layers.0.mlp.down_proj.weight", (0, 4)
    info = read_header(path).tensors["blk.0.ffn_down.weight"]
    content = bytearray(path.read_bytes())
    content[info.offset : info.offset + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(content)
    checkpoint = open_gguf(path)
    spec = next(spec for spec in checkpoint.table if spec.name == name)
    formats = chosen(checkpoint)
    quantizer = NearestQuantizer(formats.quantization)
    with pytest.raises(CheckpointError, match="holds NaN or infinity: the checkpoint is damaged"):
        list(
            encode_rows(
                checkpoint.tensors[name],
                spec,
                rows=rows,
                first=0,
                formats=formats,
                quantizer=quantizer,
            )
        )
