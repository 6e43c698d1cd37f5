"""A decoder layer's attention in a decode step on a GPU by Vulkan: our programs against TVM's own.

`python -m benchmarks.gpu_attention [--device 0] [--shapes 0.5b,1.1b] [--contexts 128,4096]`. The two take
turns. Prints JSON: milliseconds that the device takes (medians), bytes of keys and values in them by second,
and the share of what a copy on the device reaches in the same run. Keys and values lie in more layers than
caches hold.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.target import Target
from tvm_ffi import load_module

from benchmarks.checkpoints import SHAPES, Shape
from benchmarks.gpu_device import chosen_shapes, copy_rate, device_time, gpu_profile, on_device
from mlc_edge.vulkan.device import find_adapter, open_device
from webbuild.kernels.gpu.attention_split import split_decode
from webbuild.kernels.interface import PAGE_TOKENS

# Rotary embedding that these programs leave alone.
ROTARY = (0, 1.0, 1e4)


def compile_attention(shape: Shape, dtype: str, folder: Path) -> dict[str, Callable[..., Any]]:
    """Both programs, by way."""
    profile = gpu_profile(dtype)
    heads, kv_heads, width = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
    with Target(profile.tvm_target, host=profile.tvm_host) as target:
        programs = {
            "ours": split_decode(heads, kv_heads, width, profile.dtype),
            "tvm": tvm_kernels._attention_decode(
                kv_heads, heads, width, profile.dtype, False, {}, target
            ),
        }
        found = {}
        for way, program in programs.items():
            module = tvm.IRModule({"attend": program.with_attr("global_symbol", "attend")})
            path = folder / f"{way}.so"
            tvm.compile(module, target=target).export_library(str(path))
            found[way] = load_module(path)["attend"]
    return found


def indices(*values: int) -> Any:
    """int32 on the device."""
    return tvm.runtime.tensor(np.array(values, np.int32), tvm.device("webgpu", 0))


def run_context(
    shape: Shape,
    dtype: str,
    context: int,
    ways: dict[str, Callable[..., Any]],
    options: argparse.Namespace,
    rate: float,
) -> dict[str, Any]:
    """Milliseconds by way for `options.sequences` of so many tokens each."""
    float_type = gpu_profile(dtype).dtype
    pages = -(-context // PAGE_TOKENS)
    count, heads, width = options.sequences, shape.num_attention_heads, shape.head_dim
    cached = (count * pages, 2, shape.num_key_value_heads, PAGE_TOKENS, width)
    size = math.prod(cached) * np.dtype(float_type).itemsize
    layers = [
        on_device(cached, float_type) for _ in range(-(-options.rotated_mb * 1_000_000 // size))
    ]
    q = on_device((count, heads, width), float_type)
    output = on_device((count, heads, width), float_type)
    lse = on_device((count, heads), "float32")
    indptr = indices(*(pages * sequence for sequence in range(count + 1)))
    places = indices(*range(count * pages))
    last = indices(*[context - (pages - 1) * PAGE_TOKENS] * count)
    zeros = indices(*[0] * count)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds + 1):
        for way, function in ways.items():

            def call(index: int, function: Callable[..., Any] = function) -> Any:
                layer = layers[index % len(layers)]
                where = (indptr, places, last, zeros, zeros)
                function(q, layer, *where, output, lse, *ROTARY, 1 / math.sqrt(width))
                return lse

            taken[way].append(device_time(call, options.calls))
    # The first turn allocates.
    medians = {way: statistics.median(times[1:]) for way, times in taken.items()}
    speed = size / medians["ours"] * 1000
    return {
        **{f"{way}_ms": round(ms, 4) for way, ms in medians.items()},
        "tvm_over_ours": round(medians["tvm"] / medians["ours"], 2),
        "cached_bytes": size,
        "gb_per_s": round(speed / 1e9, 1),
        "of_copy_rate": round(speed / rate, 3),
    }


def run_shape(shape: Shape, dtype: str, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """What was measured, by context."""
    with tempfile.TemporaryDirectory() as folder:
        ways = compile_attention(shape, dtype, Path(folder))
        return {
            str(context): run_context(shape, dtype, context, ways, options, rate)
            for context in map(int, options.contexts.split(","))
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="index in `mlc-edge doctor`")
    parser.add_argument("--shapes", help=f"of {', '.join(SHAPES)}; default: small without a GPU")
    parser.add_argument("--dtypes", default="f16,f32")
    parser.add_argument("--contexts", default="128,1024,4096")
    parser.add_argument("--sequences", type=int, default=1, help="that take the step together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--rotated-mb", type=int, default=256)
    options = parser.parse_args()
    adapter = find_adapter(options.device)
    open_device(adapter)
    rate = copy_rate()
    found = {
        f"{name}-{dtype}": run_shape(SHAPES[name], dtype, options, rate)
        for name in chosen_shapes(options.shapes, adapter)
        for dtype in options.dtypes.split(",")
    }
    described = {"adapter": adapter.name, "driver": adapter.driver}
    speed = round(rate / 1e9, 1)
    print(json.dumps({**described, "copy_gb_per_s": speed, "shapes": found}, indent=1))


if __name__ == "__main__":
    main()
