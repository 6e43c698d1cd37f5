"""Runs a model library whose kernels are computed by an NVIDIA GPU, and the rest by this CPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from mlc_edge.bundle import BundleLock, BundleTarget
from mlc_edge.cuda.driver import CUDA_NATIVE, Gpu, find_gpu
from mlc_edge.cuda.runtime import free_bytes, load_runtime
from mlc_edge.errors import BundleError, EngineError
from mlc_edge.memory import available_bytes
from mlc_edge.model_runner import CacheSizes, ModelRunner, Threads

# Characters of an error.
MOST_TOLD = 400


class CudaRunner(ModelRunner):
    """A model's weights, cache and kernels on a GPU."""

    DEVICE: ClassVar[str] = "cuda"

    def __init__(
        self,
        bundle: Path,
        target: str | None = None,
        *,
        index: int = 0,
        sizes: CacheSizes | None = None,
        threads: Threads | None = None,
    ) -> None:
        """As ModelRunner, on the GPU of that index.

        Raises ConfigError if there is none, EngineError if it can't run the kernels or hold the weights.
        """
        self.gpu = find_gpu(index)
        with self._device_errors():
            super().__init__(bundle, target, sizes=sizes, threads=threads)

    @property
    def memory_note(self) -> str:
        """Whose memory is reckoned."""
        return "" if self.gpu.shares_memory else f" of {self.gpu.name}'s"

    def available_bytes(self) -> int:
        """What is free of the GPU's memory, or of the machine's where it shares that."""
        if self.gpu.shares_memory:
            # The driver counts what the kernel would drop when it needs the room.
            return min(available_bytes(), self.gpu.memory_bytes)
        with self._device_errors():
            return free_bytes(self.gpu.index)

    def create_cache(self, sizes: CacheSizes) -> None:
        """As ModelRunner; raises EngineError if the GPU can't hold both, before weights are copied."""
        with self._device_errors():
            super().create_cache(sizes)

    def call_with_parameters(self, function: str, *arguments: Any) -> list[npt.NDArray[Any]]:
        """As ModelRunner; raises EngineError for a GPU that can't compute it."""
        with self._device_errors():
            return super().call_with_parameters(function, *arguments)

    def _choose_target(self, lock: BundleLock, names: Sequence[str]) -> str:
        return choose_target(lock, self.gpu, names)

    def _open_device(self) -> Any:
        load_runtime()
        from tvm.runtime import device

        return device(self.DEVICE, self.gpu.index)

    def _use_threads(self, count: int) -> None:
        """The CPU only launches kernels."""

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        """Errors of CUDA, while nobody's request is there, as this package's own."""
        try:
            yield
        # TVM's own are ValueError and TypeError, for a library that doesn't fit the lock.
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            # TVM appends the library's PTX.
            problem = str(error).partition("\n")[0][:MOST_TOLD]
            lacks_memory = isinstance(error, MemoryError) or "out of memory" in problem
            raise EngineError(
                "out_of_memory" if lacks_memory else "internal",
                f"cuda:{self.gpu.index} ({self.gpu.name}) can't run this model: {problem}.",
                "Use --device cpu, a smaller model or one that was built for a shorter context.",
            ) from error


def choose_target(lock: BundleLock, gpu: Gpu, names: Sequence[str]) -> str:
    """Which of the CUDA targets `names` was made for the newest kind of GPU that `gpu` is, float16 first.

    Raises BundleError that says what this machine lacks for each.
    """
    candidates = {n: lock.targets[n] for n in names if lock.targets[n].device == "cuda"}
    fitting = [name for name, target in candidates.items() if not gpu.lacks(target)]
    if fitting:
        return max(fitting, key=lambda name: (_capability(candidates[name]), "f16" in name))
    reasons = [
        f"{name} needs {', '.join(gpu.lacks(target))}" for name, target in candidates.items()
    ] or ["it has libraries for other devices only"]
    raise BundleError(
        f"{lock.model.id} has no library for cuda:{gpu.index} ({gpu.name}): {'; '.join(reasons)}. "
        f"Build the bundle with --target {CUDA_NATIVE} on this machine, too; an old driver has to be updated."
    )


def suits(lock: BundleLock, gpu: Gpu) -> bool:
    """Whether one of the libraries runs on `gpu`."""
    targets = [target for target in lock.targets.values() if target.device == "cuda"]
    return any(not gpu.lacks(target) for target in targets)


def _capability(target: BundleTarget) -> int:
    return target.needs.adapter.get("computeCapability", 0)
