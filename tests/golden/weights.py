"""Stored tensors and the values that they stand for: 16-bit floats by NumPy, files by TVM's own writer."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tvm.contrib import tvmjs

HALVES = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3555, 0x3C00, 0xBC01, 0x7BFF, 0x7C00, 0xFC00]


def _bits(values: np.ndarray) -> list[int]:
    return [int(word) for word in values.astype(np.float32).view(np.uint32)]


def make() -> dict[str, Any]:
    halves = np.array(HALVES, dtype=np.uint16)
    return {
        "halves": HALVES,
        "float16": _bits(halves.view(np.float16)),
        "bfloat16": [word << 16 for word in HALVES],
        "published": _published(),
    }


def _published() -> dict[str, Any]:
    """A shard as MLC's converter has TVM write it, in hexadecimal, its records, and what is in them.

    `expected` are the bits of words, and of floats widened to float32; the odd number of scales lays the
    norm at an odd place.
    """
    random = np.random.default_rng(7)
    norm = random.standard_normal(6).astype(np.float32)
    norm.view(np.uint32)[...] &= 0xFFFF0000
    scales = random.standard_normal((3, 1)).astype(np.float16)
    words = random.integers(0, 1 << 32, (3, 4), np.uint32)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            tensors = {"x.q_weight": words, "x.q_scale": scales, "norm.weight": norm}
            tvmjs.dump_tensor_cache(tensors, folder, encode_format="f32-to-bf16")
        (shard,) = json.loads(Path(folder, "tensor-cache.json").read_text())["records"]
        content = Path(folder, shard["dataPath"]).read_bytes()
    return {
        "shard": content.hex(),
        "records": shard["records"],
        "expected": {
            "x.q_weight": [int(word) for word in words.ravel()],
            "x.q_scale": _bits(scales.ravel()),
            "norm.weight": _bits(norm),
        },
    }
