"""Which device computes a model: what people ask for, and the model runner for it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mlc_edge.bundle import BundleLock, read_lock
from mlc_edge.compiled import NATIVE, SEPARATOR, Progress
from mlc_edge.cpu import choose_target, host_cpu
from mlc_edge.cuda.driver import CUDA_NATIVE, find_gpu, gpus
from mlc_edge.cuda.runner import CudaRunner
from mlc_edge.cuda.runner import suits as suits_gpu
from mlc_edge.errors import BundleError, ConfigError, ToolchainError
from mlc_edge.model_runner import CacheSizes, ModelRunner, Threads, named_targets
from mlc_edge.vulkan.build import is_compiled
from mlc_edge.vulkan.device import find_adapter, probe_adapters
from mlc_edge.vulkan.runner import VulkanRunner, build_target

Computing = Literal["cpu", "vulkan", "cuda"]
EXPECTED_DEVICE = "auto, cpu, vulkan, cuda, or vulkan:1 for the second adapter"
DEVICE_HELP = (
    "What computes: cpu, vulkan, cuda, or vulkan:1 for the second adapter that `mlc-edge doctor` lists. "
    "auto: the fastest of them with this model, measured once."
)


@dataclass(frozen=True)
class DeviceChoice:
    """A device; `index` counts the adapters of its kind. "auto" leaves it to the bundle."""

    kind: Literal["auto"] | Computing
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "DeviceChoice":
        """Raises ConfigError that says what was expected."""
        match = re.fullmatch(r"(auto|cpu)|(vulkan|cuda)(?::(\d{1,3}))?", text)
        if match is None:
            raise ConfigError(f"device is {text!r}: use {EXPECTED_DEVICE}.")
        return cls(match[1] or match[2], int(match[3] or 0))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind in ("vulkan", "cuda") else self.kind

    def require(self, target: str | None) -> None:
        """Raise ConfigError if `target` is for another device, by its name."""
        if target and self.kind not in ("auto", _device_of(target)):
            raise ConfigError(f"target {target} is not for the device {self.kind}: leave one out.")

    def build_target(self, report: Progress) -> str | None:
        """What a checkpoint is compiled for to run on it; None leaves it to `own_targets`.

        Raises ConfigError if there is no such device.
        """
        if self.kind == "cuda":
            find_gpu(self.index)
            return CUDA_NATIVE
        if self.kind != "vulkan":
            return NATIVE if self.kind == "cpu" else None
        if not is_compiled():
            report("compiling the plugin for Vulkan (once)", None)
        return build_target(find_adapter(self.index))


def _device_of(target: str) -> str:
    return next((kind for kind in ("vulkan", "cuda") if target.startswith(kind)), "cpu")


def open_runner(
    bundle: Path,
    device: DeviceChoice,
    target: str | None = None,
    *,
    sizes: CacheSizes | None = None,
    threads: Threads | None = None,
) -> ModelRunner:
    """The runner of `bundle` on `device`: "auto" takes the CPU if there is a library for it.

    Raises MlcEdgeError as the runners do.
    """
    kind = _device_kind(bundle, device, target)
    if kind == "vulkan":
        return VulkanRunner(bundle, target, adapter=device.index, sizes=sizes, threads=threads)
    if kind == "cuda":
        return CudaRunner(bundle, target, index=device.index, sizes=sizes, threads=threads)
    return ModelRunner(bundle, target, sizes=sizes, threads=threads)


def _device_kind(bundle: Path, device: DeviceChoice, target: str | None) -> str:
    lock = read_lock(bundle)
    named = {lock.targets[name].device for name in named_targets(lock, target)} if target else set()
    if named:
        kind = named.pop()
        if kind not in get_args(Computing):
            raise ConfigError(
                f"target {target} is for the device {kind}, not for {' or '.join(get_args(Computing))}."
            )
        if device.kind not in ("auto", kind):
            raise ConfigError(
                f"target {target} is for the device {kind}, not for {device.kind}: leave one out."
            )
        return kind
    if device.kind != "auto":
        return device.kind
    if suits_cpu(lock):
        return "cpu"
    kinds = {each.device for each in lock.targets.values()}
    if "cuda" in kinds and ("vulkan" not in kinds or any(suits_gpu(lock, gpu) for gpu in gpus())):
        return "cuda"
    return "vulkan" if "vulkan" in kinds else "cpu"


def own_targets() -> str:
    """What a checkpoint is compiled for by default: the CPU, and a GPU that is worth measuring beside it."""
    try:
        found = probe_adapters() if is_compiled() else ()
    except (ConfigError, ToolchainError):
        found = ()
    # One target serves all that are no software.
    gpus = [build_target(adapter) for adapter in found if not adapter.is_slow]
    return SEPARATOR.join((NATIVE, *gpus[:1]))


def suits_cpu(lock: BundleLock) -> bool:
    """Whether one of the libraries runs on this CPU."""
    try:
        choose_target(lock, host_cpu())
    except BundleError:
        return False
    return True
