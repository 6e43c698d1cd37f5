"""Target profiles: everything that the pipeline knows about a device. Adding a board is adding one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mlc_edge.bundle import BROWSER_DEVICES, Device
from mlc_edge.cpu import CPU_TARGETS, VULKAN_TARGETS, Cpu, host_cpu, suits
from mlc_edge.cuda.driver import CUDA_NATIVE, list_gpus
from mlc_edge.errors import ConfigError
from webbuild.quantization.formats import WeightFormats

# What every WebGPU device offers.
WEBGPU_LIMITS = {"max_num_threads": 256, "max_shared_memory_per_block": 16384}
WEBGPU_BINDING_BYTES = 128 << 20

DType = Literal["float32", "float16"]
SUFFIXES: dict[DType, str] = {"float16": "f16", "float32": "f32"}
DeviceClass = Literal["any", "software"]
# What an adapter's description must say. There is no class for subgroups: TVM's sums by them read lanes by
# their number in the workgroup, which WGSL leaves undefined beyond the subgroup's size.
ADAPTERS: dict[DeviceClass, dict[str, int]] = {
    "any": {},
    "software": {"isSoftware": 1},
}
# What every GPU that CUDA 13 knows offers a block of threads, and kernels are made for.
CUDA_LIMITS = {
    "max_num_threads": 256,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}
# Compute capabilities, and the architectures of the CPUs beside such GPUs: Jetson Orin, Jetson Thor, H100.
CUDA_TARGETS = {
    "cuda-sm87": (87, "aarch64"),
    "cuda-sm110": (110, "aarch64"),
    "cuda-sm90": (90, "x86_64"),
}
DotProduct = Literal["avx512vnni", "avx2", "dotprod", "neon"]


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """One kind of device that a model library is compiled for.

    `library` is the file's path in a bundle, `kernels` which of webbuild.kernels it is made of, `dtype` the
    kernels' float type, `features` what a browser's adapter or a CPU must have (WebGPU's names, or Linux's)
    and `adapter` minima of numbers that describe an adapter (as in the lock), `dot_product` the instructions
    that a CPU's products of quantised weights are made of, `compiler` the program that links a shared
    library, `max_batch_size` the number of sequences that one step takes and `max_binding_bytes` how much of
    a weight with the rows of a vocabulary a kernel binds at once, if that is limited.
    """

    name: str
    library: str
    tvm_target: dict[str, Any]
    tvm_host: dict[str, Any]
    device: Device
    kernels: Literal["cpu", "gpu", "gpu-software"]
    linker: Literal["wasm", "shared"]
    dtype: DType
    features: tuple[str, ...] = ()
    adapter: Mapping[str, int] = field(default_factory=dict)
    dot_product: DotProduct | None = None
    compiler: str = "g++"
    max_batch_size: int = 4
    max_binding_bytes: int | None = None
    group: str = ""

    @property
    def in_browsers(self) -> bool:
        """Whether the TypeScript engine runs it."""
        return self.device in BROWSER_DEVICES

    def interleaves(self, formats: WeightFormats) -> bool:
        """Whether quantised weights are stored in the order in which a CPU's dot products take them."""
        return self.dot_product is not None and formats.has_groups


_WASM_HOST = {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm", "vector-width": 128}


def _webgpu(dtype: DType, device_class: DeviceClass) -> TargetProfile:
    """A browser's GPU; "any" is hardware that nothing else is known of."""
    suffix = SUFFIXES[dtype]
    name = f"webgpu-{suffix}" if device_class == "any" else f"webgpu-{device_class}-{suffix}"
    return TargetProfile(
        name=name,
        library=f"lib/{name}.wasm",
        tvm_target={"kind": "webgpu", **WEBGPU_LIMITS},
        tvm_host=_WASM_HOST,
        device="webgpu",
        kernels="gpu-software" if device_class == "software" else "gpu",
        linker="wasm",
        dtype=dtype,
        features=("shader-f16",) if dtype == "float16" else (),
        adapter=ADAPTERS[device_class],
        max_binding_bytes=None if device_class == "software" else WEBGPU_BINDING_BYTES,
        group="webgpu",
    )


def _cpu(name: str, mcpu: str, dot: DotProduct, mattr: str) -> TargetProfile:
    """A Linux CPU; `mattr` are LLVM's features beyond those of `mcpu`."""
    arch = CPU_TARGETS[name][0]
    machine = {"kind": "llvm", "mtriple": f"{arch}-linux-gnu", "mcpu": mcpu, "mattr": mattr.split()}
    return TargetProfile(
        name=name,
        library=f"lib/{name}.so",
        tvm_target=machine,
        tvm_host=machine,
        device="cpu",
        kernels="cpu",
        linker="shared",
        dtype="float32",
        features=CPU_TARGETS[name],
        dot_product=dot,
        compiler=f"{arch}-linux-gnu-g++",
        max_batch_size=16,
    )


def _vulkan(arch: str, browsers: TargetProfile) -> TargetProfile:
    """A browser's kernels for wgpu-native, called from a CPU of that architecture."""
    name = browsers.name.replace("webgpu", f"vulkan-{VULKAN_TARGETS[arch]}")
    return replace(
        browsers,
        name=name,
        library=f"lib/{name}.so",
        tvm_host={"kind": "llvm", "mtriple": f"{arch}-linux-gnu"},
        device="vulkan",
        linker="shared",
        features=(arch, *browsers.features),
        compiler=f"{arch}-linux-gnu-g++",
        group=name.rpartition("-")[0],
    )


def _cuda(group: str, capability: int, arch: str) -> Iterator[TargetProfile]:
    """NVIDIA's GPUs of that compute capability (87 for 8.7) or a later one, called from a CPU of `arch`."""
    for dtype in get_args(DType):
        name = f"{group}-{SUFFIXES[dtype]}"
        yield TargetProfile(
            name=name,
            library=f"lib/{name}.so",
            tvm_target={"kind": "cuda", "arch": f"sm_{capability}", **CUDA_LIMITS},
            tvm_host={"kind": "llvm", "mtriple": f"{arch}-linux-gnu"},
            device="cuda",
            kernels="gpu",
            linker="shared",
            dtype=dtype,
            features=(arch,),
            adapter={"computeCapability": capability},
            compiler=f"{arch}-linux-gnu-g++",
            group=group,
        )


def _cuda_native() -> Iterator[TargetProfile]:
    """For all of this machine's GPUs; raises ConfigError if there is none."""
    found = list_gpus()
    if not found:
        raise ConfigError(
            f"--target {CUDA_NATIVE}: NVIDIA's driver finds no GPU here: "
            f"name one of {', '.join(CUDA_TARGETS)}."
        )
    return _cuda(CUDA_NATIVE, min(gpu.capability for gpu in found), host_cpu().arch)


CPU_PROFILES = (
    _cpu("pi4", "cortex-a72", "neon", "+neon"),
    _cpu("pi5", "cortex-a76", "dotprod", "+neon +dotprod"),
    _cpu("jetson-orin", "cortex-a78ae", "dotprod", "+neon +dotprod"),
    _cpu("jetson-thor", "neoverse-v3ae", "dotprod", "+dotprod"),
    _cpu("aarch64", "generic", "neon", "+neon"),
    _cpu("x86-64", "x86-64-v3", "avx2", ""),
    # LLVM prefers shorter vectors, for CPUs that once slowed down at 512 bits.
    _cpu("x86-64-v4", "x86-64-v4", "avx512vnni", "+avx512vnni -prefer-256-bit"),
)


def _native(cpu: Cpu) -> TargetProfile | None:
    """The best of the CPU profiles for `cpu`: a bundle stays loadable on every machine like it."""
    name = suits(cpu)
    found = (profile for profile in CPU_PROFILES if profile.name == name)
    best = next(found, None)
    return best and replace(best, name="native", library="lib/native.so", compiler="g++")


WEBGPU_PROFILES = tuple(
    _webgpu(dtype, device_class)
    for device_class in get_args(DeviceClass)
    for dtype in get_args(DType)
)
VULKAN_PROFILES = tuple(
    _vulkan(arch, profile) for arch in VULKAN_TARGETS for profile in WEBGPU_PROFILES
)
CUDA_PROFILES = tuple(
    profile for group, machine in CUDA_TARGETS.items() for profile in _cuda(group, *machine)
)
PROFILES = (*WEBGPU_PROFILES, *VULKAN_PROFILES, *CUDA_PROFILES, *CPU_PROFILES)
GROUPS = tuple(dict.fromkeys(profile.group for profile in PROFILES if profile.group))
# Boards whose GPUs take what any does.
BOARD_GROUPS = {"jetson-orin-vulkan": "vulkan-aarch64", "pi5-vulkan": "vulkan-aarch64"}
KNOWN_TARGETS = (
    *(*GROUPS, CUDA_NATIVE, *BOARD_GROUPS),
    *(*(profile.name for profile in PROFILES), "native"),
)


def profiles_for(target: str, quantization: str) -> list[TargetProfile]:
    """Profiles that `--target target` builds: one, or all of a group.

    Weights in full-precision formats (`f32` in the quantisation's name) get no float16 kernels.
    Raises ConfigError for an unknown target, and for one of this machine's that doesn't suit it.
    """
    wanted = BOARD_GROUPS.get(target, target)
    known = _cuda_native() if target.startswith(CUDA_NATIVE) else PROFILES
    found = [p for p in known if wanted in (p.name, p.group)]
    if target == "native":
        cpu = host_cpu()
        native = _native(cpu)
        if native is None:
            raise ConfigError(
                f"--target native: no profile suits this CPU ({cpu.model}, {cpu.arch}): "
                f"name one of {', '.join(p.name for p in CPU_PROFILES)}."
            )
        found = [native]
    if not found:
        raise ConfigError(
            f"unknown target {target!r}: --target takes one of {', '.join(KNOWN_TARGETS)}."
        )
    fitting = [p for p in found if p.dtype == "float32" or "f16" in quantization]
    if not fitting:
        raise ConfigError(
            f"target {target!r} has float16 kernels and {quantization} is a float32 format: "
            "use q4f16_1 or q0f16, or the target webgpu-f32."
        )
    if target == fitting[0].group and fitting[0].device == "cuda":
        # All of them compute in float16: there is no need of both.
        return [min(fitting, key=lambda profile: profile.dtype)]
    return fitting
