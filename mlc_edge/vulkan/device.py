"""The machine's Vulkan adapters, and the one device that a process opens."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import BundleTarget
from mlc_edge.errors import ConfigError, ToolchainError
from mlc_edge.places import PACKAGES, child_environment
from mlc_edge.tvm_runtime import import_runtime
from mlc_edge.vulkan.build import plugin_library, wgpu_native

# A Raspberry Pi 5's.
SLOW_ADAPTERS = ("V3D",)
# Registered by the plugin.
REGISTRY = "mlc_edge.vulkan."
PROBE = "from mlc_edge.vulkan.device import _function; print(_function('adapters')())"
PROBE_SECONDS = 60
NO_ADAPTER = (
    "there is no Vulkan adapter: install the GPU's driver (or mesa-vulkan-drivers, which computes on the "
    "CPU), and see that this user may open /dev/dri or /dev/nvidia*; `mlc-edge doctor` lists adapters."
)


@dataclass(frozen=True)
class Adapter:
    """A GPU with a Vulkan driver; features and limits have WebGPU's names.

    `kind` is "discrete", "integrated", "software" (computed on the CPU) or "unknown".
    """

    index: int
    name: str
    driver: str
    kind: str
    features: tuple[str, ...]
    limits: Mapping[str, int]

    @property
    def is_software(self) -> bool:
        """Whether a CPU stands in for the GPU."""
        return self.kind == "software"

    @property
    def is_slow(self) -> bool:
        """Whether the CPU is faster, as far as is known: nobody takes it unless it is named."""
        return self.is_software or any(name in self.name for name in SLOW_ADAPTERS)

    @property
    def shares_memory(self) -> bool:
        """Whether its memory is the machine's: of any other, WebGPU tells neither size nor use."""
        return self.kind in ("integrated", "software")

    def lacks(self, target: BundleTarget) -> list[str]:
        """What `target`'s kernels need of an adapter and this one doesn't offer; CPUs are not asked."""
        needs = target.needs
        # wgpu-native doesn't tell how large subgroups are: a library that has to know fits none.
        offered = {**self.limits, "isSoftware": int(self.is_software)}
        minima = {**needs.limits, **needs.adapter}
        missing = [f for f in needs.features if f in GPU_FEATURES and f not in self.features]
        short = [name for name, least in minima.items() if offered.get(name, 0) < least]
        return missing + [
            f"{name} of {minima[name]} (it has {offered.get(name, 0)})" for name in short
        ]


# Those that a library may need; its other features are a CPU's.
GPU_FEATURES = ("shader-f16", "subgroups")


def adapters() -> tuple[Adapter, ...]:
    """All adapters, by their index.

    Compiles the plugin if that wasn't done before. Raises ConfigError or ToolchainError if it can't be.
    """
    return _described(_function("adapters")())


def probe_adapters() -> tuple[Adapter, ...]:
    """As `adapters`, but by a process of its own: a driver that crashes or hangs doesn't take this one along.

    Raises ToolchainError that says how that process ended.
    """
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(
            command,
            cwd=PACKAGES,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            errors="replace",
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"no answer came within {PROBE_SECONDS} s") from error
    except OSError as error:
        raise ToolchainError(f"no process could be started ({error})") from error
    if done.returncode == 0:
        return _described(done.stdout)
    told = done.stderr.strip().splitlines()[-1:]
    raise ToolchainError(*told or [f"the process ended with {done.returncode}"])


def _described(listed: str) -> tuple[Adapter, ...]:
    return tuple(
        Adapter(
            index=index,
            name=entry["name"],
            driver=entry["driver"],
            kind=entry["kind"],
            features=tuple(dict.fromkeys(entry["features"])),
            limits=entry["limits"],
        )
        for index, entry in enumerate(json.loads(listed))
    )


def find_adapter(index: int) -> Adapter:
    """The adapter of that index; raises ConfigError that lists those that there are."""
    found = adapters()
    if not found:
        raise ConfigError(NO_ADAPTER)
    if index < len(found):
        return found[index]
    listed = ", ".join(f"vulkan:{adapter.index} ({adapter.name})" for adapter in found)
    raise ConfigError(f"there is no Vulkan adapter {index}: use one of {listed}.")


def open_device(adapter: Adapter) -> None:
    """Open the process's device if it isn't open; raises ConfigError if it is another or can't be opened."""
    opened = _opened[0] if _opened else None
    if opened is not None and opened != adapter.index:
        raise ConfigError(
            f"this process computes on vulkan:{opened} already: start another for vulkan:{adapter.index}."
        )
    if opened is None:
        try:
            _function("open")(adapter.index)
        except RuntimeError as error:
            raise ConfigError(f"vulkan:{adapter.index} ({adapter.name}): {error}.") from error
        _opened.append(adapter.index)


def require_device() -> None:
    """Raise RuntimeError if the device is lost."""
    _function("require")()


def take_statistics() -> dict[str, int]:
    """What the device did since this was asked last, or since it was opened.

    Counts of `dispatches`, `passes`, `submits`, `waits`, and of `bind_groups`, `buffers` and `pipelines` that
    were made; bytes `uploaded`, of the `largest_buffer` that was asked for, and of the `largest_binding`.
    And what there is now: `live_buffers`.
    """
    counted: dict[str, int] = json.loads(_function("take_statistics")())
    return counted


_opened: list[int] = []
_libraries: list[ctypes.CDLL] = []


def _function(name: str) -> Any:
    _load()
    from tvm_ffi import get_global_func

    return get_global_func(f"{REGISTRY}{name}")


def _load() -> None:
    """Load the plugin; what it needs of TVM and wgpu-native it finds among the process's symbols."""
    if _libraries:
        return
    plugin = plugin_library()
    import_runtime()
    # Mesa's layer would put the adapter of a display first, and complains where there is none.
    os.environ.setdefault("NODEVICE_SELECT", "1")
    import tvm
    import tvm_ffi.libinfo

    runtime = Path(tvm.__file__).parent / "lib" / "libtvm_runtime.so"
    for library in (tvm_ffi.libinfo.find_libtvm_ffi(), runtime, wgpu_native()):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    try:
        _libraries.append(ctypes.CDLL(str(plugin)))
    except OSError as error:
        raise ToolchainError(
            f"Vulkan's plugin can't be loaded: {error}. Delete {plugin}."
        ) from error
