"""What benchmarks of a GPU's kernels share: data on the device, and the time that it takes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm

from benchmarks.checkpoints import SHAPES
from mlc_edge.cpu import VULKAN_TARGETS, host_cpu
from mlc_edge.vulkan.device import Adapter
from webbuild.targets import TargetProfile, profiles_for

COPY_BYTES = 1 << 28
HARDWARE_SHAPES = ("0.5b", "1.1b", "3b", "8b")


def chosen_shapes(option: str | None, adapter: Adapter) -> list[str]:
    """Names of `SHAPES`; exits where there is none of that name."""
    if option is None:
        return ["small"] if adapter.is_software else list(HARDWARE_SHAPES)
    names = option.split(",")
    if unknown := set(names) - set(SHAPES):
        raise SystemExit(f"--shapes: no {', '.join(unknown)}; there is {', '.join(SHAPES)}")
    return names


def gpu_profile(dtype: str) -> TargetProfile:
    """That of this machine's Vulkan libraries of `dtype` (f16 or f32)."""
    (profile,) = profiles_for(f"vulkan-{VULKAN_TARGETS[host_cpu().arch]}-{dtype}", "q4f16_1")
    return profile


def on_device(shape: tuple[int, ...], dtype: str) -> Any:
    """Random, with scales that keep sums small."""
    random = np.random.default_rng(0)
    if dtype == "uint32":
        values = random.integers(0, 1 << 32, shape, np.uint32)
    else:
        values = (random.normal(size=shape) / 64).astype(dtype)
    return tvm.runtime.tensor(values, tvm.device("webgpu", 0))


def device_time(call: Callable[[int], Any], count: int) -> float:
    """Milliseconds that the device takes for one of `count` calls: it begins when a result is read."""
    for index in range(count):
        result = call(index)
    start = time.perf_counter()
    result.numpy()
    return 1000 * (time.perf_counter() - start) / count


def copy_rate() -> float:
    """Bytes by second that a copy on the device reads and writes."""
    source = on_device((COPY_BYTES // 4,), "uint32")
    copies = [tvm.runtime.empty(source.shape, "uint32", tvm.device("webgpu", 0)) for _ in range(2)]
    small = on_device((1,), "uint32")
    rates = []
    for _ in range(5):
        for copy in copies:
            copy.copyfrom(source)
        start = time.perf_counter()
        small.numpy()
        rates.append(2 * COPY_BYTES * len(copies) / (time.perf_counter() - start))
    return statistics.median(rates)
