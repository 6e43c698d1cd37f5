"""Runs a model library whose kernels are computed by a Vulkan device, and the rest by this CPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from mlc_edge.bundle import BundleLock, BundleTarget
from mlc_edge.cpu import VULKAN_TARGETS, host_cpu
from mlc_edge.errors import BundleError, EngineError
from mlc_edge.model_runner import PAGE_TOKENS, CacheSizes, ModelRunner, Threads
from mlc_edge.vulkan.device import Adapter, find_adapter, open_device, require_device

# Stages whose kernels this runner never comes to: it draws tokens on the CPU.
UNUSED_STAGES = ("sampling", "drawing")


class VulkanRunner(ModelRunner):
    """A model's weights, cache and kernels on the process's Vulkan device."""

    # TVM's name for what takes WGSL.
    DEVICE: ClassVar[str] = "webgpu"

    def __init__(
        self,
        bundle: Path,
        target: str | None = None,
        *,
        adapter: int = 0,
        sizes: CacheSizes | None = None,
        threads: Threads | None = None,
    ) -> None:
        """As ModelRunner, on the adapter of that index.

        Raises ConfigError if it can't be had, EngineError if it can't run the kernels or hold the weights.
        """
        self.adapter = find_adapter(adapter)
        with self._device_errors():
            super().__init__(bundle, target, sizes=sizes, threads=threads)

    @property
    def memory_note(self) -> str:
        """That it is the machine's memory which is reckoned, where the GPU may have its own."""
        if self.adapter.shares_memory:
            return ""
        return f" of the machine's (how much {self.adapter.name} has is not told)"

    @property
    def max_cache_tokens(self) -> int:
        """Tokens whose keys and values a layer can bind, beside the page that TVM adds to them."""
        layers = int(self.metadata["kv_cache"]["num_hidden_layers"])
        largest = self.adapter.limits["maxStorageBufferBindingSize"]
        pages = largest // (self.kv_bytes_per_token // layers * PAGE_TOKENS)
        return max(0, pages - 1) * PAGE_TOKENS

    def create_cache(self, sizes: CacheSizes) -> None:
        """As ModelRunner; raises EngineError if the device can't hold both, before weights are copied."""
        with self._device_errors():
            super().create_cache(sizes)

    def reset(self) -> None:
        """As ModelRunner; raises RuntimeError if the device is lost, which this process can't mend."""
        require_device()
        super().reset()

    def _choose_target(self, lock: BundleLock, names: Sequence[str]) -> str:
        return choose_target(lock, self.adapter, names)

    def _open_device(self) -> Any:
        open_device(self.adapter)
        return super()._open_device()

    def _load(self, library: Path) -> None:
        super()._load(library)
        kernels = self.metadata["kernels"]
        unused = [name for stage in UNUSED_STAGES for name in kernels.get(stage, [])]
        for module in _walk(self._library):
            if module.kind == "webgpu":
                module["vulkan.prepare"](unused)

    def _use_threads(self, count: int) -> None:
        """The CPU only launches kernels."""

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        """Errors of the plugin, while nobody's request is there, as this package's own."""
        try:
            yield
        # TVM's own are ValueError and TypeError, for a library that doesn't fit the lock.
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise EngineError(
                "out_of_memory" if isinstance(error, MemoryError) else "internal",
                f"vulkan:{self.adapter.index} ({self.adapter.name}) can't run this model: {error}.",
                "Use --device cpu, a smaller model or one that was built for a shorter context.",
            ) from error


def choose_target(lock: BundleLock, adapter: Adapter, names: Sequence[str]) -> str:
    """Which of the Vulkan targets `names` uses most of what `adapter` and this CPU offer.

    Raises BundleError that says what they lack for each.
    """
    candidates = {n: lock.targets[n] for n in names if lock.targets[n].device == "vulkan"}
    fitting = [name for name, target in candidates.items() if not _missing(target, adapter)]
    if fitting:
        return max(fitting, key=lambda name: _demands(candidates[name]))
    reasons = [
        f"{name} needs {', '.join(_missing(target, adapter))}"
        for name, target in candidates.items()
    ] or ["it has libraries for other devices only"]
    raise BundleError(
        f"{lock.model.id} has no library for vulkan:{adapter.index} ({adapter.name}): "
        f"{'; '.join(reasons)}. Build the bundle with --target {build_target(adapter)}, too."
    )


def suits(lock: BundleLock, adapter: Adapter) -> bool:
    """Whether one of the libraries runs on `adapter`."""
    targets = [target for target in lock.targets.values() if target.device == "vulkan"]
    return any(not _missing(target, adapter) for target in targets)


def build_target(adapter: Adapter) -> str:
    """What `mlc-edge build --target` calls the libraries that suit this CPU and `adapter` best."""
    arch = host_cpu().arch
    name = f"vulkan-{VULKAN_TARGETS.get(arch, arch)}"
    return f"{name}-software" if adapter.is_software else name


def _demands(target: BundleTarget) -> tuple[int, int]:
    """How special a library is."""
    return len(target.needs.adapter), len(target.needs.features)


def _missing(target: BundleTarget, adapter: Adapter) -> list[str]:
    arch = host_cpu().arch
    others = [name for name in target.needs.features if name in VULKAN_TARGETS and name != arch]
    return others + adapter.lacks(target)


def _walk(module: Any) -> Iterator[Any]:
    yield module
    for imported in module.imports:
        yield from _walk(imported)
