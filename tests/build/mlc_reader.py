"""Reads weights in MLC's format one input at a time, from the format's description alone."""

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
        # TVM's writer notes the format on tensors of every dtype, and encodes those of float32 alone.
        if record["format"] == "f32-to-bf16" and record["dtype"] == "float32":
            halves = np.frombuffer(raw, "<u2")
            values = np.frombuffer(b"".join(b"\0\0" + h.tobytes() for h in halves), "<f4")
        else:
            values = np.frombuffer(raw, np.dtype(record["dtype"]).newbyteorder("<"))
        tensors[name] = values.reshape(record["shape"])
    return tensors


def read_interleaved(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a bundle's parameter set for CPUs, in MLC's order, blocks still padded."""
    tensors = read_tensors(folder / "cpu")
    return {name: _reorder(name, tensor) for name, tensor in tensors.items()}


def _reorder(name: str, tensor: np.ndarray) -> np.ndarray:
    if name.endswith(("q_scale", "q_minimum")):
        blocks, groups, rows = tensor.shape
        return tensor.transpose(0, 2, 1).reshape(blocks * rows, groups)
    if not name.endswith("q_weight"):
        return tensor
    blocks, groups, size = tensor.shape
    bits = size * 8 // 512
    words = np.zeros((blocks * 16, groups * bits), np.uint32)
    for block, group, byte in np.ndindex(*tensor.shape):
        value = int(tensor[block, group, byte])
        line, lane, inner = byte // 64, byte % 64 // 4, byte % 4
        row = block * 16 + lane
        if bits == 8:
            words[row, group * 8 + line] |= np.uint32(value << (8 * inner))
        else:
            both = (value & 15) << (4 * inner) | (value >> 4) << (4 * (inner + 4))
            words[row, group * 4 + line] |= np.uint32(both)
    return words


def dequantize(
    words: np.ndarray, scales: np.ndarray, columns: int, minimums: np.ndarray | None = None
) -> np.ndarray:
    """Words [n, w], scales and minimums [n, g] to values [n, columns], exactly, in float32."""
    bits = words.shape[1] // scales.shape[1]
    zero = {4: 7, 8: 128}[bits] if minimums is None else 0
    values = np.zeros((words.shape[0], columns), np.float32)
    for column in range(columns):
        first = column * bits
        level = (words[:, first // 32] >> np.uint32(first % 32)) & np.uint32((1 << bits) - 1)
        scale = scales[:, column // 32].astype(np.float32)
        values[:, column] = (level.astype(np.float32) - zero) * scale
        if minimums is not None:
            values[:, column] += minimums[:, column // 32].astype(np.float32)
    return values


def layer_weight(layer: str, stored: dict[str, np.ndarray], columns: int) -> np.ndarray:
    """A layer's weight [n, columns], out of the tensors that it is stored as."""
    words, scales = (stored[f"{layer}.{name}"] for name in ("q_weight", "q_scale"))
    return dequantize(words, scales, columns, stored.get(f"{layer}.q_minimum"))


def stored_parameter(
    name: str, stored: dict[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """A parameter of transformers, taken out of the bundle's fused and quantised tensors."""
    if name in stored:
        return stored[name].astype(np.float32)
    fused, before = _place(name, stored, shape)
    if fused in stored:
        return stored[fused][before : before + shape[0]].astype(np.float32)
    values = layer_weight(fused.removesuffix(".weight"), stored, shape[1])
    return values[before : before + shape[0]]


def _place(name: str, stored: dict[str, np.ndarray], shape: tuple[int, ...]) -> tuple[str, int]:
    """Name of the fused parameter that holds `name`, and the rows before it."""
    for part, fused in (("gate_proj", "gate_up_proj"), ("up_proj", "gate_up_proj")):
        if part in name:
            return name.replace(part, fused), shape[0] if part == "up_proj" else 0
    for part in ("q_proj", "k_proj", "v_proj"):
        if part in name:
            whole = name.replace(part, "qkv_proj")
            stored_as = whole if whole in stored else whole.replace(".weight", ".q_weight")
            rows = stored[stored_as].shape[0]
            return whole, {"q_proj": 0, "k_proj": rows - 2 * shape[0], "v_proj": rows - shape[0]}[
                part
            ]
    return name, 0
