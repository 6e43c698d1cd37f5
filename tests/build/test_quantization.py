from pathlib import Path

import numpy as np
import pytest

from mlc_edge.errors import CheckpointError, ConfigError
from tests.build.mlc_reader import dequantize
from webbuild.models.spec import ParameterSpec
from webbuild.quantization import FORMATS, encode, find_quantization, quantize, round_to_bf16

Q4 = [FORMATS["q4f16_1"], FORMATS["q4f32_1"]]


def random_weight(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("format", Q4, ids=lambda format: format.name)
@pytest.mark.parametrize("columns", [32, 80, 7])
def test_values_come_back_within_half_a_step(format, columns: int):
    weight = random_weight((6, columns))
    words, scales = quantize(weight, format)
    assert words.shape == (6, -(-columns // 32) * 4)
    restored = dequantize(words, scales, columns)
    # The scale's rounding may push the group's largest value beyond level 7 by under 1/256.
    step = np.repeat(scales, 32, axis=1)[:, :columns]
    assert (np.abs(restored - weight) <= step * 0.53).all()


@pytest.mark.parametrize("format", Q4, ids=lambda format: format.name)
def test_what_was_quantised_is_quantised_to_itself(format):
    words, scales = quantize(random_weight((4, 64)), format)
    restored = dequantize(words, scales, 64)
    # Only where a group holds its extreme level does it have the same scale again.
    again, same_scales = quantize(restored, format)
    assert (again == words).all()
    assert (same_scales == scales).all()


def test_words_hold_eight_values_lowest_bits_first():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = [-7.0, 7.0, 1.0]
    words, scales = quantize(weight, FORMATS["q4f16_1"])
    assert scales.tolist() == [[1.0]]
    assert words.tolist() == [[0x777778E0, 0x77777777, 0x77777777, 0x77777777]]


def test_a_group_of_zeros_is_exact():
    words, scales = quantize(np.zeros((2, 32), np.float32), FORMATS["q4f32_1"])
    assert not scales.any()
    assert (words == 0x77777777).all()


def test_bf16_rounds_to_nearest_even():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32)
    rounded = round_to_bf16(bits.view(np.float32)).view(np.uint32)
    assert [hex(value) for value in rounded] == [
        "0x3f800000",
        "0x3f820000",
        "0x3f810000",
        "0x3f800000",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(value: float):
    spec = ParameterSpec("x.weight", (1, 32), ("source.weight",), quantized=True)
    with pytest.raises(CheckpointError, match=r"source\.weight holds NaN or infinity"):
        list(encode("source.weight", np.full((1, 32), value, np.float32), spec, FORMATS["q4f16_1"]))


@pytest.mark.parametrize("name", ["q0f16", "q4f16_1"])
def test_values_beyond_float16_are_named(name: str):
    spec = ParameterSpec("x.weight", (1, 32), ("source.weight",), quantized=True)
    weight = np.full((1, 32), 1e6, np.float32)
    with pytest.raises(CheckpointError, match=r"source\.weight holds values beyond float16"):
        list(encode("source.weight", weight, spec, FORMATS[name]))


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'q5'.*q0f32, q0f16, q4f32_1, q4f16_1"):
        find_quantization("q5")


def test_source_types_are_widened(tmp_path: Path):
    from safetensors.torch import save_file
    from torch import bfloat16, float16, tensor

    from webbuild.safetensors_file import read_header

    values = [[1.5, -2.25], [3.0, 0.0078125]]
    file = tmp_path / "model.safetensors"
    save_file({"a": tensor(values, dtype=bfloat16), "b": tensor(values, dtype=float16)}, file)
    tensors, problems = read_header(file)
    assert not problems
    assert [tensors[name].read_rows(0, 2).tolist() for name in "ab"] == [values, values]
    assert tensors["a"].read_rows(1, 2).tolist() == values[1:]
