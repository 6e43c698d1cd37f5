from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlc_edge.errors import CheckpointError, ConfigError
from tests.build.mlc_reader import dequantize
from tests.build.nearest import NearestQuantizer
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.encode import encode_rows, pack_levels, round_to_bf16
from webbuild.quantization.formats import (
    Q4,
    QUANTIZATIONS,
    TENSOR_FORMATS,
    Quantization,
    TensorFormat,
    WeightFormats,
    find_quantization,
)
from webbuild.quantization.groups import Groups
from webbuild.safetensors_file import StoredTensor, read_header

FORMATS = [format for format in TENSOR_FORMATS.values() if format.bits]
DTYPES = ["q4f16_1", "q4f32_1"]


def random_weight(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def quantize(weight: np.ndarray, quantization: str, format: TensorFormat = Q4) -> Groups:
    spec = ParameterSpec("x.weight", weight.shape, ("x.weight",), quantized=True)
    return NearestQuantizer(QUANTIZATIONS[quantization]).quantize(spec, format, weight, 0)


def restored(groups: Groups, columns: int) -> np.ndarray:
    return dequantize(pack_levels(groups), groups.scales, columns, groups.minimums)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
@pytest.mark.parametrize("quantization", DTYPES)
@pytest.mark.parametrize("columns", [32, 80, 7])
def test_values_come_back_within_half_a_step(quantization: str, columns: int, format: TensorFormat):
    weight = random_weight((6, columns))
    groups = quantize(weight, quantization, format)
    found = restored(groups, columns)
    np.testing.assert_array_equal(found, groups.values(columns))
    # A scale's rounding pushes the value farthest from zero beyond the last level.
    rounding = 2.0 ** (-8 if quantization == "q4f32_1" else -11)
    step = np.repeat(groups.scales, 32, axis=1)[:, :columns]
    assert (np.abs(found - weight) <= step * 0.501 + rounding * 2 * np.abs(weight).max()).all()


@pytest.mark.parametrize("quantization", DTYPES)
def test_what_was_quantised_is_quantised_to_itself(quantization: str):
    once = quantize(random_weight((4, 64)), quantization)
    # Only where a group holds its extreme level does it have the same scale again.
    again = quantize(once.values(64), quantization)
    assert (again.levels == once.levels).all()
    assert (again.scales == once.scales).all()


def test_words_hold_eight_values_lowest_bits_first():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = [-7.0, 7.0, 1.0]
    groups = quantize(weight, "q4f16_1")
    assert groups.scales.tolist() == [[1.0]]
    words = pack_levels(groups)
    assert words.tolist() == [[0x777778E0, 0x77777777, 0x77777777, 0x77777777]]


def test_words_hold_four_values_of_eight_bits():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = [-127.0, 127.0, 1.0]
    groups = quantize(weight, "q8f16", TENSOR_FORMATS["q8"])
    assert groups.scales.tolist() == [[1.0]]
    assert pack_levels(groups).tolist() == [[0x8081FF01, *[0x80808080] * 7]]


def test_a_group_of_zeros_is_exact():
    groups = quantize(np.zeros((2, 32), np.float32), "q4f32_1")
    assert not groups.scales.any()
    assert (pack_levels(groups) == 0x77777777).all()


def test_bf16_rounds_to_nearest_even():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32)
    rounded = round_to_bf16(bits.view(np.float32)).view(np.uint32)
    assert [hex(value) for value in rounded] == [
        "0x3f800000",
        "0x3f820000",
        "0x3f810000",
        "0x3f800000",
    ]


def encoded(folder: Path, value: float, quantization: Quantization) -> list[bytes]:
    save_file({"source.weight": np.full((1, 32), value, np.float32)}, folder / "model.safetensors")
    source: StoredTensor = read_header(folder / "model.safetensors")[0]["source.weight"]
    spec = ParameterSpec("x.weight", (1, 32), ("source.weight",), quantized=True)
    formats, quantizer = WeightFormats(quantization, {}), NearestQuantizer(quantization)
    rows = (0, 1)
    return list(encode_rows(source, spec, rows=rows, first=0, formats=formats, quantizer=quantizer))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, value: float):
    with pytest.raises(CheckpointError, match=r"source\.weight holds NaN or infinity"):
        encoded(tmp_path, value, QUANTIZATIONS["q4f16_1"])


@pytest.mark.parametrize("name", ["q0f16", "q4f16_1", "q4mf16"])
def test_values_beyond_float16_are_named(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match=r"source\.weight holds values beyond float16"):
        encoded(tmp_path, 1e6, QUANTIZATIONS[name])


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'q5'.*q0f32, q0f16, q4f32_1, q4f16_1"):
        find_quantization("q5")


def test_source_types_are_widened(tmp_path: Path):
    from safetensors import torch
    from torch import bfloat16, float16, tensor

    values = [[1.5, -2.25], [3.0, 0.0078125]]
    file = tmp_path / "model.safetensors"
    torch.save_file({"a": tensor(values, dtype=bfloat16), "b": tensor(values, dtype=float16)}, file)
    tensors, problems = read_header(file)
    assert not problems
    assert [tensors[name].read_rows(0, 2).tolist() for name in "ab"] == [values, values]
    assert tensors["a"].read_rows(1, 2).tolist() == values[1:]
