"""Facts about a device, and what follows from them."""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.hardware.bandwidth import read_bandwidth
from edge.hardware.device import Device, memory_for_models, probe, profile
from edge.hardware.model_size import KNOWN_MODELS, ModelSize, read_size
from edge.hardware.profile import Profile
from edge.hardware.sysfs import ROOT
from mlc_edge.bundle import LOCK_NAME, read_lock
from mlc_edge.cpu import Cpu, suits
from mlc_edge.cuda.driver import Gpu, list_gpus
from mlc_edge.errors import BundleError, CheckpointError, MlcEdgeError
from mlc_edge.trust import Trust, configured_keys
from mlc_edge.verification import check_bundle, check_weights
from mlc_edge.version import __version__
from mlc_edge.vulkan.build import plugin_origin
from mlc_edge.vulkan.device import Adapter, probe_adapters

# A decode step reads all weights once, and the kernels reach this share of the bandwidth that a plain
# read measures; threads meet and results are handed over in the time on top. Measured with 1.1B and 2M
# parameters on two cores of an EPYC.
DECODE_EFFICIENCY = 0.7
STEP_OVERHEAD_S = 0.3e-3
PROCESS_BYTES = 150 << 20
LOW_DISK_BYTES = 2 << 30
HOT_C = 80.0


@dataclass(frozen=True)
class Fit:
    """Whether a model fits and how fast it should write; sizes in bytes.

    `memory_bytes` counts the weights, a cache for `context_tokens`, and the program.
    """

    name: str
    weight_bytes: int
    context_tokens: int
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
    """All that `mlc-edge doctor` says; bandwidth in bytes a second, sizes in bytes.

    `plugin` is Vulkan's: "shipped" or "compiled", None where it isn't compiled yet. `adapters` are Vulkan's,
    None where there is no plugin to ask for them, none where that fails; `gpus` are CUDA's, and
    `no_gpus` says why there are none.
    """

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
    plugin: str | None
    adapters: tuple[Adapter, ...] | None
    gpus: tuple[Gpu, ...]
    no_gpus: str
    temperature_c: float | None
    throttled: tuple[str, ...]
    disk_free_bytes: int
    versions: dict[str, str]
    target: str | None
    models: tuple[Fit, ...]
    model: Fit | None
    problems: tuple[Problem, ...]
    usable: bool


def diagnose(model: str | None, root: Path = ROOT) -> Diagnosis:
    """Probe this device, measure its memory, and judge `model` (a folder) and the well-known ones.

    `root` is where proc and sys are found. Raises ConfigError if there is no such model.
    """
    device = probe(root)
    threads = profile(device)
    bandwidth = read_bandwidth(threads.decode_threads)
    target = suits(device.cpu)
    asked, problem = _asked_model(model, device, bandwidth) if model else (None, None)
    plugin = plugin_origin()
    found, failure = _adapters() if plugin else (None, [])
    gpus, no_gpus = _gpus()
    problems = (*_problems(device, target), *failure)
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
        plugin=plugin,
        adapters=found,
        gpus=gpus,
        no_gpus=no_gpus,
        temperature_c=device.temperature_c,
        throttled=device.throttled,
        disk_free_bytes=device.disk_free_bytes,
        versions=_versions(),
        target=target,
        models=tuple(_fit(size, device, bandwidth) for size in KNOWN_MODELS),
        model=asked,
        problems=(*problems, problem) if problem else problems,
        usable=target is not None and problem is None,
    )


def _adapters() -> tuple[tuple[Adapter, ...], list[Problem]]:
    try:
        return probe_adapters(), []
    except MlcEdgeError as error:
        remedy = "Models run on the CPU; update the GPU's driver, and see docs/vulkan.md."
        return (), [Problem(f"Vulkan's adapters can't be asked for: {error}", remedy)]


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    try:
        return tuple(list_gpus()), "none found"
    except MlcEdgeError as error:
        return (), str(error)


def _fit(size: ModelSize, device: Device, bandwidth: float) -> Fit:
    needed = size.weight_bytes + size.cache_bytes + PROCESS_BYTES
    return Fit(
        name=size.name,
        weight_bytes=size.weight_bytes,
        context_tokens=size.tokens,
        memory_bytes=needed,
        fits=needed <= memory_for_models(device),
        expected_decode_tokens_per_s=1
        / (size.weight_bytes / (DECODE_EFFICIENCY * bandwidth) + STEP_OVERHEAD_S),
    )


def _asked_model(model: str, device: Device, bandwidth: float) -> tuple[Fit | None, Problem | None]:
    try:
        folder = Path(model).expanduser()
        if (folder / LOCK_NAME).exists():
            _require_runnable(folder)
        fit = _fit(read_size(folder), device, bandwidth)
    except (BundleError, CheckpointError) as error:
        return None, Problem(f"{model} can't run here", str(error))
    if fit.fits:
        return fit, None
    return fit, Problem(
        f"{fit.name} needs {fit.memory_bytes >> 20} MiB, and programs here can have "
        f"{memory_for_models(device) >> 20} MiB",
        "Close other programs, or use a smaller model.",
    )


def _require_runnable(bundle: Path) -> None:
    """Raise BundleError for a damaged bundle, and one that this machine's trusted keys don't vouch for."""
    if Trust.of(False, configured_keys()).runs_libraries_of(bundle):
        check_bundle(bundle)
    else:
        # Its libraries are made anew here.
        check_weights(bundle, read_lock(bundle))


def _problems(device: Device, target: str | None) -> Iterator[Problem]:
    if target is None:
        yield Problem(
            f"no library target suits this CPU ({device.cpu.arch})",
            "mlc-edge runs on 64-bit ARM, and on x86-64 with AVX2.",
        )
    if "under-voltage" in device.throttled:
        yield Problem("the power supply is too weak", "Use the board's official supply and cable.")
    held_back = [reason for reason in device.throttled if reason != "under-voltage"]
    if held_back:
        yield Problem(
            f"the device is held back: {', '.join(held_back)}", "Give it a heat sink or fan."
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
