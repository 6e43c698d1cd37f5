"""How GGUF stores weights: blocks of bytes that hold a few scales and many small numbers.

Layouts: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbuild.quantization.formats import GROUP, Q4, Q4M, Q8, TensorFormat
from webbuild.quantization.groups import Floats, Groups

Bytes = npt.NDArray[np.uint8]
# Blocks uint8 [n, bytes] to levels uint8 [n, g, 32], scales and minimums float32 [n, g].
Unpack = Callable[[Bytes], tuple[Bytes, Floats, Floats | None]]
# Blocks uint8 [n, bytes] to weights float32 [n, weights].
Decode = Callable[[Bytes], Floats]
IQ4_NL_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
SUPER_BLOCK = 256


@dataclass(frozen=True)
class BlockType:
    """A type of tensors: a block's `weights` take `bytes`.

    `format` is the one that `unpack` gives without loss; types without one have `decode` alone.
    """

    name: str
    weights: int
    bytes: int
    format: TensorFormat | None = None
    unpack: Unpack | None = None
    decode: Decode | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether weights were rounded to less than a float."""
        return self.weights > 1

    def values(self, rows: Bytes) -> Floats:
        """Weights float32 [n, k] of rows uint8 [n, k / weights * bytes]."""
        if self.decode is None:
            return self.groups(rows).values(rows.shape[1] // self.bytes * self.weights)
        return self.decode(rows.reshape(-1, self.bytes)).reshape(len(rows), -1)

    def groups(self, rows: Bytes) -> Groups:
        """The same rows as levels and scales; only where there is a `format`."""
        assert self.unpack and self.format, f"{self.name} has no groups"
        levels, scales, minimums = self.unpack(rows.reshape(-1, self.bytes))
        count = len(rows)
        return Groups(
            self.format,
            levels.reshape(count, -1, GROUP),
            scales.reshape(count, -1),
            None if minimums is None else minimums.reshape(count, -1),
        )


def widened(groups: Groups) -> Groups:
    """Levels of q4 as levels of q8 with the same values."""
    shift = np.uint8(Q8.zero_point - groups.format.zero_point)
    return Groups(Q8, groups.levels + shift, groups.scales)


def _float16(pairs: Bytes) -> Floats:
    """Little-endian float16 in uint8 [n, 2 m] to float32 [n, m]."""
    return np.ascontiguousarray(pairs).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """uint8 [n, m] to [n, 2 m]: all lower halves, then all upper ones."""
    return np.concatenate((packed & 15, packed >> 4), axis=1)


def _q4_0(blocks: Bytes) -> tuple[Bytes, Floats, None]:
    # (u - 8) * d = ((15 - u) - 7) * -d
    return 15 - _nibbles(blocks[:, 2:]), -_float16(blocks[:, :2]), None


def _q4_1(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    return _nibbles(blocks[:, 4:]), _float16(blocks[:, :2]), _float16(blocks[:, 2:4])


def _q5_0(blocks: Bytes) -> tuple[Bytes, Floats, None]:
    levels = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return levels + np.uint8(Q8.zero_point - 16), _float16(blocks[:, :2]), None


def _fifth_bits(packed: Bytes) -> Bytes:
    """uint8 [n, 4] to [n, 32], each 0 or 16."""
    return np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)


def _q8_0(blocks: Bytes) -> tuple[Bytes, Floats, None]:
    # Adding 128 to a signed byte turns its highest bit.
    return blocks[:, 2:] ^ np.uint8(Q8.zero_point), _float16(blocks[:, :2]), None


def _iq4_nl(blocks: Bytes) -> tuple[Bytes, Floats, None]:
    levels = np.array(IQ4_NL_VALUES, np.int16) + Q8.zero_point
    return levels.astype(np.uint8)[_nibbles(blocks[:, 2:])], _float16(blocks[:, :2]), None


def _q4_k(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    scales, minimums = _scales_and_minimums(blocks)
    return _super_block_nibbles(blocks[:, 16:]), scales, minimums


def _scales_and_minimums(blocks: Bytes) -> tuple[Floats, Floats]:
    """Of the 8 groups of a Q4_K or Q5_K block: float16 factors, times 6 bits each in 12 bytes."""
    first, second, rest = (blocks[:, start : start + 4] for start in (4, 8, 12))
    scales = np.concatenate((first & 63, (rest & 15) | (first >> 6 << 4)), axis=1)
    minimums = np.concatenate((second & 63, (rest >> 4) | (second >> 6 << 4)), axis=1)
    factors = _float16(blocks[:, :4])
    return factors[:, :1] * scales, -(factors[:, 1:] * minimums)


def _super_block_nibbles(packed: Bytes) -> Bytes:
    """uint8 [n, 128] to [n, 8, 32]: 32 bytes hold two groups, in their lower and upper halves."""
    packed = packed.reshape(len(packed), 4, 1, GROUP)
    return np.concatenate((packed & 15, packed >> 4), axis=2).reshape(len(packed), 8, GROUP)


def _q5_1(blocks: Bytes) -> Floats:
    levels = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _float16(blocks[:, :2]) * levels + _float16(blocks[:, 2:4])


def _q5_k(blocks: Bytes) -> Floats:
    scales, minimums = _scales_and_minimums(blocks)
    # Bit g of 32 bytes is the fifth one of group g.
    groups = np.arange(8, dtype=np.uint8)[:, None]
    fifth = (blocks[:, None, 16:48] >> groups & 1) << np.uint8(4)
    levels = _super_block_nibbles(blocks[:, 48:]) | fifth
    return scales[:, :, None] * levels + minimums[:, :, None]


def _q6_k(blocks: Bytes) -> Floats:
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate((low & 15, low >> 4), axis=2).reshape(-1, 2, 4, GROUP)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, GROUP) >> shifts & 3
    levels = (low | high << np.uint8(4)).reshape(-1, 16, 16).astype(np.float32) - 32
    scales = _float16(blocks[:, 208:]) * blocks[:, 192:208].view(np.int8)
    return scales[:, :, None] * levels


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f4")


def _bf16(blocks: Bytes) -> Floats:
    return (np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << 16).view(np.float32)


# By the number that files have for the type (enum ggml_type).
BLOCK_TYPES = {
    0: BlockType("F32", 1, 4, decode=_f32),
    1: BlockType("F16", 1, 2, decode=_float16),
    2: BlockType("Q4_0", GROUP, 18, Q4, _q4_0),
    3: BlockType("Q4_1", GROUP, 20, Q4M, _q4_1),
    6: BlockType("Q5_0", GROUP, 22, Q8, _q5_0),
    7: BlockType("Q5_1", GROUP, 24, decode=_q5_1),
    8: BlockType("Q8_0", GROUP, 34, Q8, _q8_0),
    12: BlockType("Q4_K", SUPER_BLOCK, 144, Q4M, _q4_k),
    13: BlockType("Q5_K", SUPER_BLOCK, 176, decode=_q5_k),
    14: BlockType("Q6_K", SUPER_BLOCK, 210, decode=_q6_k),
    20: BlockType("IQ4_NL", GROUP, 18, Q8, _iq4_nl),
    30: BlockType("BF16", 1, 2, decode=_bf16),
}
# Types that are known by name alone.
OTHER_TYPES = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
