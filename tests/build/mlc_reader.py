"""Reads weights in MLC's format one value at a time, from the format's description alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    index = json.loads((folder / "tensor-cache.json").read_text())
    return {
        record["name"]: {**record, "file": shard["dataPath"]}
        for shard in index["records"]
        for record in shard["records"]
    }


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors in their in-memory types."""
    tensors = {}
    for name, record in read_records(folder).items():
        start, size = record["byteOffset"], record["nbytes"]
        raw = (folder / record["file"]).read_bytes()[start : start + size]
        if record["format"] == "f32-to-bf16":
            assert record["dtype"] == "float32"
            halves = np.frombuffer(raw, "<u2")
            values = np.frombuffer(b"".join(b"\0\0" + h.tobytes() for h in halves), "<f4")
        else:
            assert record["format"] == "raw"
            values = np.frombuffer(raw, np.dtype(record["dtype"]).newbyteorder("<"))
        tensors[name] = values.reshape(record["shape"])
    return tensors


def dequantize(words: np.ndarray, scales: np.ndarray, columns: int) -> np.ndarray:
    """q4 words [n, w] and scales [n, g] to values [n, columns], exactly, in float32."""
    values = np.zeros((words.shape[0], columns), np.float32)
    for row in range(words.shape[0]):
        for column in range(columns):
            level = (int(words[row, column // 8]) >> (4 * (column % 8))) & 15
            values[row, column] = np.float32(level - 7) * np.float32(scales[row, column // 32])
    return values
