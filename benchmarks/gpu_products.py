"""The products of a step on a GPU by Vulkan: our programs against TVM's own schedules.

Both compute a decoder layer's products, with the norms, activations and residuals around them, and logits,
of random 4-bit weights: `python -m benchmarks.gpu_products [--device 0] [--shapes 0.5b,1.1b]`. The two take
turns. Prints JSON: milliseconds that the device takes (medians), bytes of weights in them by second, and the
share of what a copy on the device reaches in the same run. Weights lie in more copies than caches hold.
With `--sequences 4` so many take the step together; with `--tokens 512` it is a prompt of so many, without
logits, and how many products a second are its multiplications.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor
from tvm.runtime.vm import VirtualMachine
from tvm.target import Target
from tvm_ffi import load_module

from benchmarks.checkpoints import RMS_EPSILON, SHAPES, Shape
from benchmarks.gpu_device import chosen_shapes, copy_rate, device_time, gpu_profile, on_device
from mlc_edge.vulkan.device import find_adapter, open_device
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.interface import Kernels
from webbuild.layers import Linear, RMSNorm
from webbuild.numerics import Numerics
from webbuild.passes import optimise
from webbuild.quantization.formats import Q4, TensorFormat

LAYERS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
HEAD = "lm_head"


class StockKernels(GpuKernels):
    """Those that TVM makes of tensor expressions."""

    def fuses(self, columns: int, format: TensorFormat) -> bool:
        return False


class Inputs(NamedTuple):
    """Of a step: sequences with a token each, or a prompt of several."""

    sequences: int
    tokens: int

    @property
    def extents(self) -> tuple[int | str, int | str]:
        """As libraries have them: any number unless it is one."""
        if self.tokens > 1:
            return 1, "tokens"
        return (1 if self.sequences == 1 else "sequences"), 1


class Products(nn.Module):
    """A function for each weight."""

    def __init__(self, shape: Shape, kernels: Kernels) -> None:
        numerics = Numerics(formats=dict.fromkeys((*LAYERS, HEAD), Q4), kernels=kernels)
        width, inner = shape.hidden_size, shape.intermediate_size
        queries = shape.num_attention_heads * shape.head_dim
        heads = queries + 2 * shape.num_key_value_heads * shape.head_dim
        sizes = ((width, heads), (queries, width), (width, 2 * inner), (inner, width))
        self.norm = RMSNorm(width, RMS_EPSILON, numerics)
        self.weights = nn.ModuleDict(
            {
                name: Linear(*size, numerics.of(name))
                for name, size in zip(LAYERS, sizes, strict=True)
            }
        )
        self.head = Linear(width, shape.vocab_size, numerics.of(HEAD))

    def qkv_proj(self, x: Tensor, _: Tensor) -> Tensor:
        """[1, 1, H] to queries, keys and values."""
        return self.weights["qkv_proj"].fused(x, norm=self.norm)

    def o_proj(self, x: Tensor, hidden: Tensor) -> Tensor:
        """What was attended to, and what it is added to."""
        return self.weights["o_proj"].fused(x, residual=hidden)

    def gate_up_proj(self, x: Tensor, _: Tensor) -> Tensor:
        """[1, 1, H] to the activation."""
        return self.weights["gate_up_proj"].fused(x, norm=self.norm, gated=True)

    def down_proj(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The activation, and what it is added to."""
        return self.weights["down_proj"].fused(x, residual=hidden)

    def lm_head(self, x: Tensor, _: Tensor) -> Tensor:
        """[1, 1, H] to logits."""
        return self.head(x, "float32")

    def spec(self, inputs: Inputs) -> dict[str, Any]:
        """Of the functions' arguments."""
        layers = dict(self.weights.items())
        if inputs.tokens == 1:
            layers[HEAD] = self.head
        width, dtype = self.head.in_features, self.norm.kernels.dtype
        return {
            name: {
                "x": nn.spec.Tensor([*inputs.extents, layer.in_features], dtype),
                "hidden" if name in ("o_proj", "down_proj") else "_": nn.spec.Tensor(
                    [*inputs.extents, width], dtype
                ),
                "$": {"param_mode": "packed", "effect_mode": "none"},
            }
            for name, layer in layers.items()
        }


@dataclass(frozen=True)
class Compiled:
    """Functions on the device, and their parameters' shapes and types by name, in order."""

    functions: dict[str, Callable[..., Any]]
    parameters: dict[str, tuple[tuple[int, ...], str]]
    inputs: dict[str, int]


def compile_products(
    shape: Shape, kernels: Kernels, step: Inputs, target: Target, path: Path
) -> Compiled:
    """Compiles and loads them; raises what TVM raises."""
    with target:
        products = Products(shape, kernels)
        spec = products.spec(step)
        module, parameters = products.export_tvm(spec=products.spec(step))
        bounds = {"sequences": step.sequences, "tokens": step.tokens}
        optimised = optimise(module, kernels, bounds=bounds)
        tvm.compile(optimised.module, target=target, relax_pipeline=None).export_library(str(path))
    machine = VirtualMachine(load_module(path), tvm.device("webgpu", 0))
    return Compiled(
        functions={name: machine[name] for name in spec},
        parameters={
            name: (tuple(map(int, each.shape)), str(each.dtype)) for name, each in parameters
        },
        inputs={name: int(entry["x"].shape[-1]) for name, entry in spec.items()},
    )


def run_shape(shape: Shape, dtype: str, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Milliseconds by weight and by way, and of all of a step's."""
    profile = gpu_profile(dtype)
    target = Target(profile.tvm_target, host=profile.tvm_host)
    ways = {"ours": GpuKernels, "tvm": StockKernels}
    step = Inputs(options.sequences, options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        compiled = {
            way: compile_products(
                shape,
                kind(profile.dtype, barriers=True),
                step,
                target,
                Path(folder, f"{way}.so"),
            )
            for way, kind in ways.items()
        }
    one = compiled["ours"]
    sizes = {
        name: int(np.prod(extents)) * np.dtype(kind).itemsize
        for name, (extents, kind) in one.parameters.items()
    }
    copies = max(1, -(-options.rotated_mb * 1_000_000 // sum(sizes.values())))
    weights = [[on_device(*each) for each in one.parameters.values()] for _ in range(copies)]
    hidden = on_device((*step, shape.hidden_size), profile.dtype)
    found: dict[str, Any] = {}
    for name, width in one.inputs.items():
        x = on_device((*step, width), profile.dtype)
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds + 1):
            for way, each in compiled.items():

                def call(index: int, function: Any = each.functions[name], x: Any = x) -> Any:
                    return function(x, hidden, weights[index % copies])

                taken[way].append(device_time(call, options.calls))
        # The first turn allocates.
        medians = {way: statistics.median(times[1:]) for way, times in taken.items()}
        prefix = "head." if name == HEAD else f"weights.{name}."
        weight_bytes = sum(size for key, size in sizes.items() if key.startswith(prefix))
        speed = weight_bytes / medians["ours"] * 1000
        found[name] = {
            **{f"{way}_ms": round(ms, 4) for way, ms in medians.items()},
            "tvm_over_ours": round(medians["tvm"] / medians["ours"], 2),
            "weight_bytes": weight_bytes,
            "gb_per_s": round(speed / 1e9, 1),
            "of_copy_rate": round(speed / rate, 3),
        }
        if step.tokens > 1:
            # A byte holds two levels; scales are an eighth of the weight.
            products = weight_bytes * 8 // 9 * 2 * step.tokens
            found[name]["gmac_per_s"] = round(products / medians["ours"] / 1e6, 1)
    totals = {
        way: found.get(HEAD, {f"{way}_ms": 0})[f"{way}_ms"]
        + shape.num_hidden_layers * sum(found[name][f"{way}_ms"] for name in LAYERS)
        for way in ways
    }
    ratio = round(totals["tvm"] / totals["ours"], 2)
    rounded = {f"{way}_ms": round(ms, 3) for way, ms in totals.items()}
    return {"step": {**rounded, "tvm_over_ours": ratio}, "products": found}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="index in `mlc-edge doctor`")
    parser.add_argument("--shapes", help=f"of {', '.join(SHAPES)}; default: small without a GPU")
    parser.add_argument("--dtypes", default="f16,f32")
    parser.add_argument("--sequences", type=int, default=1, help="that take the step together")
    parser.add_argument("--tokens", type=int, default=1, help="of a prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--rotated-mb", type=int, default=512)
    options = parser.parse_args()
    adapter = find_adapter(options.device)
    open_device(adapter)
    shapes = chosen_shapes(options.shapes, adapter)
    rate = copy_rate()
    print(
        json.dumps(
            {
                "adapter": adapter.name,
                "driver": adapter.driver,
                "copy_gb_per_s": round(rate / 1e9, 1),
                "shapes": {
                    f"{name}-{dtype}": run_shape(SHAPES[name], dtype, options, rate)
                    for name in shapes
                    for dtype in options.dtypes.split(",")
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
