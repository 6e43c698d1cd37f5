"""Weights of every type, bit for bit as llama.cpp's `gguf` package reads them."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from tests.gguf.writing import FACTORS, random_blocks
from webbuild.gguf.blocks import BLOCK_TYPES, widened
from webbuild.quantization.formats import Q4, Q4M, Q8

ROWS, COLUMNS = 5, 768
FORMATS = {
    Type.Q4_0: Q4,
    Type.Q4_1: Q4M,
    Type.Q4_K: Q4M,
    Type.Q5_0: Q8,
    Type.Q8_0: Q8,
    Type.IQ4_NL: Q8,
}
KINDS = [Type(number) for number in BLOCK_TYPES]


def stored(kind: Type) -> np.ndarray:
    """uint8 [ROWS, bytes of a row]"""
    if kind in FACTORS:
        return random_blocks(kind, ROWS, COLUMNS)
    weights = np.random.default_rng(1).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    # A group of zeros has a scale of zero, and one of a single sign no other.
    weights[0, :32] = 0
    weights[1, 32:64] = np.abs(weights[1, 32:64])
    return gguf.quantize(weights, kind).view(np.uint8)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_values_are_those_of_the_reference(kind: Type):
    block = BLOCK_TYPES[kind]
    assert (block.weights, block.bytes) == gguf.GGML_QUANT_SIZES[kind]
    assert block.name == kind.name
    content = stored(kind)
    expected = gguf.dequantize(content, kind).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(block.values(content), expected)
    assert block.values(content).dtype == np.float32


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_groups_have_the_same_values(kind: Type):
    block = BLOCK_TYPES[kind]
    content = stored(kind)
    groups = block.groups(content)
    assert groups.format == block.format == FORMATS[kind]
    assert groups.levels.shape == (ROWS, COLUMNS // 32, 32)
    assert groups.levels.max() < 1 << groups.format.bits
    # The definition of the formats, apart from the code that has it.
    centred = groups.levels.astype(np.float64) - {Q4: 7, Q4M: 0, Q8: 128}[groups.format]
    values = centred * groups.scales[:, :, None]
    if groups.minimums is not None:
        values = values + groups.minimums[:, :, None]
    expected = gguf.dequantize(content, kind).reshape(ROWS, -1, 32)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)


def test_other_types_have_no_format():
    assert {Type(n) for n, block in BLOCK_TYPES.items() if block.format} == set(FORMATS)


def test_eight_bits_hold_what_four_do():
    groups = BLOCK_TYPES[Type.Q4_0].groups(stored(Type.Q4_0))
    wide = widened(groups)
    assert wide.format == Q8
    np.testing.assert_array_equal(wide.values(COLUMNS), groups.values(COLUMNS))
