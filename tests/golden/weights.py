"""Stored 16-bit floats to the float32 that they stand for, by NumPy."""

from typing import Any

import numpy as np

HALVES = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3555, 0x3C00, 0xBC01, 0x7BFF, 0x7C00, 0xFC00]


def _bits(values: np.ndarray) -> list[int]:
    return [int(word) for word in values.astype(np.float32).view(np.uint32)]


def make() -> dict[str, Any]:
    halves = np.array(HALVES, dtype=np.uint16)
    return {
        "halves": HALVES,
        "float16": _bits(halves.view(np.float16)),
        "bfloat16": [word << 16 for word in HALVES],
    }
