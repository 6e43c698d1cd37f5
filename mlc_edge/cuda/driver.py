"""The machine's GPUs as NVIDIA's driver describes them, without opening any."""

import ctypes
import platform
from collections.abc import Sequence
from ctypes import byref, c_int, c_size_t
from dataclasses import dataclass

from mlc_edge.bundle import BundleTarget
from mlc_edge.cpu import ARCHITECTURES
from mlc_edge.errors import ConfigError

# What `mlc-edge build --target` calls libraries for the GPUs of the machine that compiles them.
CUDA_NATIVE = "cuda-native"
LIBRARY = "libcuda.so.1"
# cuda.h: CUdevice_attribute.
INTEGRATED, MAJOR, MINOR = 18, 75, 76
NAME_BYTES = 256
NO_DRIVER = (
    f"there is no GPU for CUDA: NVIDIA's driver ({LIBRARY}) is not installed. Install it, or use "
    "--device cpu or vulkan."
)


@dataclass(frozen=True)
class Gpu:
    """A GPU that computes by CUDA.

    `capability` is 87 for compute capability 8.7, `cuda_version` the newest that the driver knows, 13000 for
    13.0; `shares_memory` says that its memory, of `memory_bytes`, is the machine's.
    """

    index: int
    name: str
    capability: int
    memory_bytes: int
    shares_memory: bool
    cuda_version: int

    @property
    def driver(self) -> str:
        """What its driver is known by."""
        return f"CUDA {self.cuda_version // 1000}.{self.cuda_version % 1000 // 10}"

    def lacks(self, target: BundleTarget) -> list[str]:
        """What `target`'s library needs of a machine with this GPU, and there isn't."""
        offered = {"computeCapability": self.capability, "cudaVersion": self.cuda_version}
        minima = {**target.needs.limits, **target.needs.adapter}
        missing = [name for name in target.needs.features if name != host_architecture()]
        return missing + [
            f"{name} of {least} (it has {offered.get(name, 0)})"
            for name, least in minima.items()
            if offered.get(name, 0) < least
        ]


def host_architecture() -> str:
    """Of the CPU that calls kernels."""
    machine = platform.machine().lower()
    return ARCHITECTURES.get(machine, machine)


def gpus() -> Sequence[Gpu]:
    """All GPUs, by their index; none where there is no driver or it fails."""
    try:
        return list_gpus()
    except ConfigError:
        return ()


def list_gpus() -> Sequence[Gpu]:
    """As `gpus`; raises ConfigError if there is no driver, or it fails."""
    try:
        driver = _Driver(ctypes.CDLL(LIBRARY))
    except OSError as error:
        raise ConfigError(NO_DRIVER) from error
    return tuple(driver.gpu(index) for index in range(driver.count()))


def find_gpu(index: int) -> Gpu:
    """The GPU of that index; raises ConfigError that lists those that there are."""
    found = list_gpus()
    if index < len(found):
        return found[index]
    listed = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in found)
    remedy = f"use one of {listed}" if found else "use --device cpu or vulkan"
    raise ConfigError(f"there is no GPU {index} for CUDA: {remedy}.")


class _Driver:
    """Functions of CUDA's driver API."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._call("cuInit", 0)

    def count(self) -> int:
        number = c_int()
        self._call("cuDeviceGetCount", byref(number))
        return number.value

    def gpu(self, index: int) -> Gpu:
        device, memory, version = c_int(), c_size_t(), c_int()
        name = ctypes.create_string_buffer(NAME_BYTES)
        self._call("cuDeviceGet", byref(device), index)
        self._call("cuDeviceGetName", name, NAME_BYTES, device)
        self._call("cuDeviceTotalMem_v2", byref(memory), device)
        self._call("cuDriverGetVersion", byref(version))
        return Gpu(
            index=index,
            name=name.value.decode(errors="replace"),
            capability=10 * self._attribute(MAJOR, device) + self._attribute(MINOR, device),
            memory_bytes=memory.value,
            shares_memory=bool(self._attribute(INTEGRATED, device)),
            cuda_version=version.value,
        )

    def _attribute(self, number: int, device: c_int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), number, device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        function = getattr(self._library, name, None)
        if function is None:
            raise ConfigError(f"NVIDIA's driver ({LIBRARY}) has no {name}: install it again.")
        if code := function(*arguments):
            raise ConfigError(
                f"NVIDIA's driver fails ({name} gives error {code}): see that `nvidia-smi` lists the GPU "
                "and that this user may open /dev/nvidia* (or /dev/nvgpu on a Jetson)."
            )
