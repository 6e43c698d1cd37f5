"""Target profiles: everything that the pipeline knows about a device. Adding a board is adding one."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mlc_edge.errors import ConfigError

# What kernels may use; a library's lock entry says what it does use.
WEBGPU_LIMITS = {"max_num_threads": 256, "max_shared_memory_per_block": 32768}


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """One kind of device that a model library is compiled for.

    `library` is the file's path in a bundle, `dtype` the kernels' float type, `features` the WebGPU
    features that an adapter must have, `direct_reduction` the longest reduction that one GPU thread
    (or CPU lane) does alone instead of sharing it with its workgroup.
    """

    name: str
    library: str
    tvm_target: dict[str, Any]
    tvm_host: dict[str, Any]
    device: Literal["gpu", "cpu"]
    linker: Literal["wasm", "shared"]
    dtype: Literal["float16", "float32"]
    features: tuple[str, ...] = ()
    direct_reduction: int = 1024
    group: str = field(default="")


_WASM_HOST = {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm", "vector-width": 128}


def _webgpu(dtype: Literal["float16", "float32"], features: tuple[str, ...]) -> TargetProfile:
    suffix = {"float16": "f16", "float32": "f32"}[dtype]
    return TargetProfile(
        name=f"webgpu-{suffix}",
        library=f"lib/webgpu-{suffix}.wasm",
        tvm_target={"kind": "webgpu", **WEBGPU_LIMITS},
        tvm_host=_WASM_HOST,
        device="gpu",
        linker="wasm",
        dtype=dtype,
        features=features,
        group="webgpu",
    )


def _native() -> TargetProfile:
    host = {"kind": "llvm"}
    return TargetProfile(
        name="native",
        library="lib/native.so",
        tvm_target=host,
        tvm_host=host,
        device="cpu",
        linker="shared",
        dtype="float32",
        group="native",
    )


PROFILES = (_webgpu("float32", ()), _webgpu("float16", ("shader-f16",)), _native())
GROUPS = tuple(dict.fromkeys(profile.group for profile in PROFILES))


def profiles_for(target: str, quantization: str) -> list[TargetProfile]:
    """Profiles that `--target target` builds: one, or all of a group.

    Weights in full-precision formats (`f32` in the quantisation's name) get no float16 kernels.
    Raises ConfigError for an unknown target.
    """
    found = [p for p in PROFILES if target in (p.name, p.group)]
    if not found:
        known = ", ".join(dict.fromkeys((*GROUPS, *(p.name for p in PROFILES))))
        raise ConfigError(f"unknown target {target!r}: --target takes one of {known}.")
    fitting = [p for p in found if p.dtype == "float32" or "f16" in quantization]
    if not fitting:
        raise ConfigError(
            f"target {target!r} has float16 kernels and {quantization} is a float32 format: "
            "use q4f16_1 or q0f16, or the target webgpu-f32."
        )
    return fitting
