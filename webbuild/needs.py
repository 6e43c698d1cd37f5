"""Limits that a library asks of a GPU, counted from its kernels and an engine's buffers."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# TVM's pools give temporaries and workspaces whole pages.
POOL_PAGE_BYTES = 4096
WORKGROUP_ARRAY = re.compile(r"var<workgroup> \w+ ?: ?array<(?:vec(\d)<)?(\w+)>?, ?(\d+)>")
WORKGROUP_SIZE = re.compile(r"@workgroup_size\((\d+), ?(\d+), ?(\d+)\)")
WGSL_BYTES = {"f32": 4, "i32": 4, "u32": 4, "f16": 2}


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """Bytes of buffers: `bound` ones are arguments of kernels, `others` are only copied to and from."""

    bound: tuple[int, ...]
    others: tuple[int, ...] = ()


def gpu_limits(sources: Iterable[str], buffers: Buffers) -> dict[str, int]:
    """Limits by WebGPU's names; `sources` are the WGSL of a library's kernels."""
    kernels = list(sources)
    sizes = [_workgroup_size(source) for source in kernels]
    width, height, depth = (max(extents) for extents in zip(*sizes, strict=True))
    return {
        "maxStorageBufferBindingSize": max(buffers.bound),
        "maxBufferSize": max(*buffers.bound, *buffers.others),
        "maxComputeInvocationsPerWorkgroup": max(map(math.prod, sizes)),
        "maxComputeWorkgroupSizeX": width,
        "maxComputeWorkgroupSizeY": height,
        "maxComputeWorkgroupSizeZ": depth,
        "maxStorageBuffersPerShaderStage": max(s.count("var<storage") for s in kernels),
        "maxComputeWorkgroupStorageSize": max(map(_workgroup_bytes, kernels)),
    }


def parameter_bytes(parameter: Mapping[str, Any]) -> int:
    """Device memory of a parameter ({shape, dtype})."""
    return math.prod(parameter["shape"]) * np.dtype(parameter["dtype"]).itemsize


def pooled(size: int) -> int:
    """Bytes of the buffer that holds a temporary of `size` bytes."""
    return -(-size // POOL_PAGE_BYTES) * POOL_PAGE_BYTES


def _workgroup_size(source: str) -> tuple[int, int, int]:
    found = WORKGROUP_SIZE.search(source)
    assert found, "a kernel without @workgroup_size"
    width, height, depth = map(int, found.groups())
    return width, height, depth


def _workgroup_bytes(source: str) -> int:
    """Workgroup memory that a kernel declares."""
    return sum(
        int(lanes or 1) * int(count) * WGSL_BYTES[element]
        for lanes, element, count in WORKGROUP_ARRAY.findall(source)
    )
