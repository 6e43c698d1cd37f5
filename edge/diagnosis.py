"""Facts about a device, and what follows from them."""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from edge.bandwidth import read_bandwidth
from edge.device import Device, probe, profile
from edge.profile import Profile
from mlc_edge.bundle import LOCK_NAME, ModelInfo, read_lock
from mlc_edge.cpu import Cpu, choose_target, host_cpu, suits
from mlc_edge.errors import BundleError
from mlc_edge.models import resolve_model
from mlc_edge.version import __version__

# A decode step reads all weights once. The kernels reach this share of the bandwidth that a plain read
# measures; what is left goes to attention, activations and the threads' meeting points.
DECODE_EFFICIENCY = 0.8
Q4_BYTES_PER_PARAMETER = 4.5 / 8
CONTEXT_TOKENS = 4096
PROCESS_BYTES = 150 << 20
LOW_DISK_BYTES = 2 << 30
HOT_C = 80.0


@dataclass(frozen=True)
class KnownModel:
    """A well-known shape; KV bytes are those of one token, keys and values in float32."""

    name: str
    parameters: float
    kv_bytes_per_token: int


def _kv_bytes(layers: int, kv_heads: int, head_dim: int) -> int:
    return 2 * layers * kv_heads * head_dim * 4


# From the config.json of each checkpoint.
KNOWN_MODELS = (
    KnownModel("SmolLM2 135M", 0.135e9, _kv_bytes(30, 3, 64)),
    KnownModel("SmolLM2 360M", 0.362e9, _kv_bytes(32, 5, 64)),
    KnownModel("TinyLlama 1.1B", 1.1e9, _kv_bytes(22, 4, 64)),
    KnownModel("Llama 3.2 1B", 1.24e9, _kv_bytes(16, 8, 64)),
    KnownModel("SmolLM2 1.7B", 1.71e9, _kv_bytes(24, 32, 64)),
    KnownModel("Llama 3.2 3B", 3.21e9, _kv_bytes(28, 8, 128)),
    KnownModel("Mistral 7B", 7.25e9, _kv_bytes(32, 8, 128)),
    KnownModel("Llama 3.1 8B", 8.03e9, _kv_bytes(32, 8, 128)),
)


@dataclass(frozen=True)
class Fit:
    """Whether a model fits and how fast it should write; sizes in bytes."""

    name: str
    weight_bytes: int
    memory_bytes: int
    fits: bool
    expected_decode_tokens_per_s: float


@dataclass(frozen=True)
class Problem:
    """Something that an owner can mend."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """All that `mlc-edge doctor` says; bandwidth in bytes a second, sizes in bytes."""

    board: str
    kind: str
    system: str
    cpu: Cpu
    cores: int
    profile: Profile
    memory_total_bytes: int
    memory_available_bytes: int
    memory_bandwidth: float
    gpu: str | None
    vulkan: tuple[str, ...]
    temperature_c: float | None
    throttled: tuple[str, ...]
    disk_free_bytes: int
    versions: dict[str, str]
    target: str | None
    models: tuple[Fit, ...]
    model: Fit | None
    problems: tuple[Problem, ...]
    usable: bool


def diagnose(model: str | None) -> Diagnosis:
    """Probe this device, measure its memory, and judge `model` and the well-known ones."""
    device = probe()
    threads = profile(device)
    bandwidth = read_bandwidth(threads.decode_threads)
    target = suits(host_cpu())
    asked, problem = _asked_model(model, device, bandwidth) if model else (None, None)
    problems = tuple(_problems(device, target))
    return Diagnosis(
        board=device.board,
        kind=device.kind,
        system=f"{_distribution()}, Linux {platform.release()}",
        cpu=device.cpu,
        cores=device.cores,
        profile=threads,
        memory_total_bytes=device.memory_total_bytes,
        memory_available_bytes=device.memory_available_bytes,
        memory_bandwidth=bandwidth,
        gpu=device.gpu,
        vulkan=device.vulkan,
        temperature_c=device.temperature_c,
        throttled=device.throttled,
        disk_free_bytes=device.disk_free_bytes,
        versions=_versions(),
        target=target,
        models=tuple(_known_fit(known, device, bandwidth) for known in KNOWN_MODELS),
        model=asked,
        problems=(*problems, problem) if problem else problems,
        usable=target is not None and problem is None,
    )


def _known_fit(known: KnownModel, device: Device, bandwidth: float) -> Fit:
    weights = int(known.parameters * Q4_BYTES_PER_PARAMETER)
    return _fit(known.name, weights, CONTEXT_TOKENS * known.kv_bytes_per_token, device, bandwidth)


def _fit(name: str, weights: int, cache: int, device: Device, bandwidth: float) -> Fit:
    needed = weights + cache + PROCESS_BYTES
    free = device.memory_available_bytes
    return Fit(name, weights, needed, needed <= free, DECODE_EFFICIENCY * bandwidth / weights)


def _asked_model(model: str, device: Device, bandwidth: float) -> tuple[Fit | None, Problem | None]:
    bundle = resolve_model(model)
    if not (bundle / LOCK_NAME).is_file():
        return None, Problem(f"{model} is not a bundle", "Build it with `mlc-edge build`.")
    lock = read_lock(bundle)
    try:
        weights = lock.targets[choose_target(lock, host_cpu())].parameter_bytes
    except BundleError as error:
        return None, Problem(f"{lock.model.id} can't run here", str(error))
    fit = _fit(_title(lock.model), weights, 0, device, bandwidth)
    if fit.fits:
        return fit, None
    return fit, Problem(
        f"{lock.model.id} needs {fit.memory_bytes >> 20} MiB, more than is free",
        "Close other programs, or use a smaller model.",
    )


def _title(model: ModelInfo) -> str:
    return f"{model.id} ({model.quantization})"


def _problems(device: Device, target: str | None) -> Iterator[Problem]:
    if target is None:
        yield Problem(
            f"no library target suits this CPU ({device.cpu.arch})",
            "mlc-edge runs on 64-bit ARM, and on x86-64 with AVX2.",
        )
    if "under-voltage" in device.throttled:
        yield Problem("the power supply is too weak", "Use the board's official supply and cable.")
    if set(device.throttled) - {"under-voltage"}:
        yield Problem(
            f"the device is held back: {', '.join(device.throttled)}", "Give it a heat sink or fan."
        )
    if device.temperature_c is not None and device.temperature_c >= HOT_C:
        yield Problem(f"it is hot: {device.temperature_c:.0f} °C", "Give it a heat sink or fan.")
    if device.disk_free_bytes < LOW_DISK_BYTES:
        yield Problem("little disk space is left", "Free some: a 1B model takes 0.7 GiB.")
    if not any(map(shutil.which, ("g++", "clang++"))):
        yield Problem(
            "there is no C++ linker, which compiling models here needs",
            "Install g++, or build bundles on another machine.",
        )


def _versions() -> dict[str, str]:
    return {
        "mlc-edge": __version__,
        "apache-tvm": importlib.metadata.version("apache-tvm"),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
