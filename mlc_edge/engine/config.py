"""How an engine is set up, and how large its KV cache may be."""

from dataclasses import dataclass
from typing import Literal

from mlc_edge.compiled import Progress
from mlc_edge.devices import DeviceChoice
from mlc_edge.engine.conversation import ContextPolicy
from mlc_edge.engine.kv_cache import PAGE_TOKENS
from mlc_edge.errors import ConfigError, EngineError
from mlc_edge.model_runner import CacheSizes, ModelRunner, Threads

Mode = Literal["local", "interactive", "server"]
MODES: tuple[Mode, ...] = ("local", "interactive", "server")
# Requests in a batch, and contexts that the cache has room for, as in MLC's modes.
LOCAL_BATCH = 4
LOCAL_CONTEXTS = 2
QUEUE_PER_PLACE = 16
MIB = 1 << 20
# What the process needs besides weights, cache and workspace, and what is left to others.
PROCESS_BYTES = 150 * MIB
RESERVE_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """None stands for a default that suits the device and the mode.

    `device` is "auto", "cpu", "vulkan", "cuda", or "vulkan:1" for the second adapter.
    `local` answers a few requests at once, `interactive` one, `server` as many as the library takes.
    `max_total_tokens` is the KV cache's size, `memory_limit_bytes` bounds weights, cache and all else,
    `max_queue` counts requests that wait for a place. `deterministic` is for requests that don't say:
    theirs are the same bits whatever is cached or in the batch. `served_names` are what requests may call
    the model in place of its id.
    """

    mode: Mode = "local"
    device: str = "auto"
    target: str | None = None
    max_batch_size: int | None = None
    max_total_tokens: int | None = None
    memory_limit_bytes: int | None = None
    max_queue: int | None = None
    prefill_threads: int | None = None
    decode_threads: int | None = None
    context_policy: ContextPolicy = "error"
    deterministic: bool = False
    served_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mode is {self.mode!r}: use one of {', '.join(MODES)}.")
        DeviceChoice.parse(self.device).require(self.target)
        counts = "max_batch_size max_total_tokens memory_limit_bytes prefill_threads decode_threads"
        for name in counts.split():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: use 1 or more, or leave it out.")
        if self.max_queue is not None and self.max_queue < 0:
            raise ConfigError(f"max_queue is {self.max_queue}: use 0 or more.")

    def build_target(self, report: Progress) -> str | None:
        """What a checkpoint is compiled for; None for what this machine has. Raises ConfigError."""
        return self.target or DeviceChoice.parse(self.device).build_target(report)

    def threads(self, cores: int) -> Threads:
        """Threads of a device with so many cores."""
        return Threads(
            min(self.prefill_threads or cores, cores), min(self.decode_threads or cores, cores)
        )

    def batch_size(self, largest: int) -> int:
        """Sequences of a step, where the library takes `largest`."""
        default = {"local": LOCAL_BATCH, "interactive": 1, "server": largest}[self.mode]
        return min(self.max_batch_size or default, largest)

    def queue_size(self, batch: int) -> int:
        """Requests that may wait."""
        return QUEUE_PER_PLACE * batch if self.max_queue is None else self.max_queue


def cache_sizes(config: EngineConfig, runner: ModelRunner) -> CacheSizes:
    """The KV cache's size; raises EngineError out_of_memory if not even a short one fits."""
    batch = config.batch_size(runner.max_batch_size)
    context = runner.context_window_size
    contexts = {"local": min(LOCAL_CONTEXTS, batch), "interactive": 1, "server": batch}
    wanted = config.max_total_tokens or contexts[config.mode] * context
    besides = runner.parameter_bytes + runner.workspace_bytes
    usable = _usable_bytes(config, runner)
    affordable = max(0, usable - besides) // runner.kv_bytes_per_token
    most = min(affordable, runner.max_cache_tokens)
    tokens = min(wanted, most) // PAGE_TOKENS * PAGE_TOKENS
    least = min(runner.prefill_chunk_size, context, wanted)
    if tokens < min(least, PAGE_TOKENS):
        raise EngineError(
            "out_of_memory",
            f"There is too little memory for a KV cache of {least} tokens besides the weights: "
            f"{_mib(besides + least * runner.kv_bytes_per_token)} are needed "
            f"({_mib(runner.parameter_bytes)} of weights, {_mib(runner.workspace_bytes)} for a step, "
            f"the rest for the cache), {_mib(usable)} may be used{runner.memory_note}.",
            "Close other programs, raise the memory limit, or use a smaller model or one that was built "
            "for a shorter context.",
        )
    return CacheSizes(batch, tokens, runner.prefill_chunk_size)


def _usable_bytes(config: EngineConfig, runner: ModelRunner) -> int:
    """For weights, workspace and cache, of which nothing is in memory yet."""
    available = int(runner.available_bytes() * (1 - RESERVE_SHARE))
    if config.memory_limit_bytes is None:
        return available
    return max(0, min(available, config.memory_limit_bytes - PROCESS_BYTES))


def _mib(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
