"""Runs a model library with TVM's runtime: nothing above it touches TVM on a device."""

import json
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mlc_edge.bundle import ABI_VERSION, REBUILD, BundleLock, read_lock
from mlc_edge.cpu import choose_target, host_cpu, physical_cores
from mlc_edge.errors import BundleError
from mlc_edge.files import read_plain
from mlc_edge.memory import available_bytes
from mlc_edge.parameters import ParameterSet
from mlc_edge.text_files import CHAT_CONFIG
from mlc_edge.tvm_runtime import import_runtime

PAGE_TOKENS = 16
# TVM's ThreadGroup::AffinityMode kSpecifyThreadShareAllCore.
SHARE_CORES = -3
FLOAT_BYTES = {"float32": 4, "float16": 2}
# What a library and its bundle name beside `model_config`.
OUTER_FIELDS = ("quantization", "vocab_size", "context_window_size")

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Threads:
    """Threads that compute prefills and decodes: a device may want more of them for the former."""

    prefill: int
    decode: int


@dataclass(frozen=True)
class CacheSizes:
    """The KV cache's room: sequences in one step, tokens of all sequences, tokens of one prefill."""

    sequences: int
    tokens: int
    prefill_chunk: int


class ModelRunner:
    """Sequences in a paged KV cache; token ids in, logits float32 out. For one thread only.

    This one computes on the CPU; other devices' extend it. `parameters` are the weights as they are stored.
    """

    DEVICE: ClassVar[str] = "cpu"

    def __init__(
        self,
        bundle: Path,
        target: str | None = None,
        *,
        sizes: CacheSizes | None = None,
        threads: Threads | None = None,
    ) -> None:
        """Load the library for `target` (default: the best for this CPU).

        Without `sizes`, weights and cache get their memory by `create_cache` later. Raises BundleError
        if the bundle is damaged, lacks the target, needs another CPU or has another ABI.
        """
        lock, names = _known_targets(bundle, target)
        self.target = self._choose_target(lock, names)
        chosen = lock.targets[self.target]
        self._cores = [str(core) for core in physical_cores()]
        everyone = Threads(len(self._cores), len(self._cores))
        self.threads = threads or everyone
        import_runtime()
        self._device = self._open_device()
        library = bundle / chosen.library
        self._load(library)
        if self.metadata["abi_version"] != ABI_VERSION:
            raise BundleError(
                f"{library} has ABI {self.metadata['abi_version']} and this "
                f"mlc-edge has {ABI_VERSION}: build the bundle again."
            )
        _require_agreement(bundle, library, self.metadata)
        self.parameters = ParameterSet(bundle, chosen.parameters)
        self.parameters.require(self.metadata["params"])
        self._parameters: list[Any] = []
        self.parameter_bytes = chosen.parameter_bytes
        self._functions = _Functions(self._machine)
        # Each step leaves its memory to the next one, in a pool that would outlive this runner.
        weakref.finalize(self, self._functions.clear_pools).atexit = False
        self._cache: Any = None
        self._threads_in_use = 0
        if sizes:
            self.create_cache(sizes)

    @property
    def memory_note(self) -> str:
        """What there is to say about where "the machine's memory" isn't all that counts."""
        return ""

    def available_bytes(self) -> int:
        """Memory for weights and cache that nobody uses."""
        return available_bytes()

    @property
    def max_cache_tokens(self) -> int:
        """Tokens that a cache can have if there is memory for them."""
        return sys.maxsize

    @property
    def context_window_size(self) -> int:
        """Tokens that a sequence may have."""
        return int(self.metadata["context_window_size"])

    @property
    def prefill_chunk_size(self) -> int:
        """Tokens that one prefill may have, those of all its sequences counted."""
        return int(self.metadata["prefill_chunk_size"])

    @property
    def max_batch_size(self) -> int:
        """Sequences that one step may have."""
        return int(self.metadata["max_batch_size"])

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that a token's keys and values take."""
        shape = self.metadata["kv_cache"]
        width = shape["num_key_value_heads"] * shape["head_dim"]
        element = FLOAT_BYTES[self.metadata["dtype"]]
        return int(2 * shape["num_hidden_layers"] * width * element)

    @property
    def workspace_bytes(self) -> int:
        """Memory that the largest function needs for what lies between its layers."""
        return max(self.metadata["memory_usage"].values(), default=0)

    def create_cache(self, sizes: CacheSizes) -> None:
        """Allocate the KV cache, without any sequence, and load the weights; replaces an earlier cache."""
        from tvm_ffi import Shape

        self._cache = None
        extents = (sizes.sequences, sizes.tokens, sizes.prefill_chunk, PAGE_TOKENS, 0)
        create = self._machine["create_tir_paged_kv_cache"]
        self._cache = create(*(Shape([extent]) for extent in extents))
        if not self._parameters:
            self._parameters = self.parameters.tensors(self.metadata["params"], self._device)

    def add_sequence(self, sequence: int) -> None:
        """Begin a sequence without tokens; the caller chooses its number."""
        self._functions.add(self._cache, sequence)

    def remove_sequence(self, sequence: int) -> None:
        """Forget a sequence and free its pages, but for those that it shares."""
        self._functions.remove(self._cache, sequence)

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        """Begin `child` with the first `position` tokens of `parent`, sharing their pages."""
        self._functions.fork(self._cache, parent, child, position)

    def pop(self, sequence: int, count: int) -> None:
        """Forget the last `count` tokens of a sequence."""
        self._functions.pop(self._cache, sequence, count)

    def reset(self) -> None:
        """Forget all sequences."""
        self._functions.clear(self._cache)

    def available_pages(self) -> int:
        """Pages of 16 tokens that no sequence has."""
        return int(self._functions.available_pages(self._cache))

    def prefill(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        """Append a run of tokens to each sequence; logits [b, V] after each run.

        All runs together may have `prefill_chunk_size` tokens.
        """
        self._use_threads(self.threads.prefill)
        lengths = [len(run) for run in tokens]
        ids = np.fromiter((id for run in tokens for id in run), np.int32, sum(lengths))
        positions = np.cumsum(lengths, dtype=np.int32) - np.int32(1)
        rows = self._embed(ids, (1, len(ids)))
        return self._forward("batch_prefill", sequences, lengths, rows, self._tensor(positions))[0]

    def decode(self, sequences: Sequence[int], token_ids: Sequence[int]) -> Logits:
        """Append one token to each sequence; logits [b, V] after them."""
        self._use_threads(self.threads.decode)
        rows = self._embed(np.asarray(token_ids, np.int32), (len(token_ids), 1))
        lengths = [1] * len(token_ids)
        return self._forward("batch_decode", sequences, lengths, rows)[:, 0]

    def verify(self, sequence: int, token_ids: Sequence[int]) -> Logits:
        """Append tokens to one sequence; logits [n, V] after each of them."""
        self._use_threads(self.threads.prefill)
        rows = self._embed(np.asarray(token_ids, np.int32), (1, len(token_ids)))
        return self._forward("batch_verify", [sequence], [len(token_ids)], rows)[0]

    def embed(self, token_ids: Sequence[int]) -> npt.NDArray[Any]:
        """Rows of the embedding table, [n, H], in the library's float type."""
        ids = np.asarray(token_ids, np.int32)
        rows: npt.NDArray[Any] = self._embed(ids, (len(ids),)).numpy()
        return rows

    def call(self, function: str, *arguments: Any) -> Any:
        """Call another of the library's functions; NumPy arrays become tensors of the device."""
        converted = [self._tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        return self._machine[function](*converted)

    def call_with_parameters(self, function: str, *arguments: Any) -> list[npt.NDArray[Any]]:
        """Call a function that takes the parameters, too, and gives several tensors."""
        self._use_threads(self.threads.prefill)
        return [result.numpy() for result in self.call(function, *arguments, self._parameters)]

    def attend(self, sequence: int, qkv: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The library's test of attention: fused [1, n, (hq + 2 hkv) d] to [1, n, hq, d]."""
        with self._step([sequence], [qkv.shape[1]]):
            result = self._machine["self_test_attention"](self._tensor(qkv), self._cache)
        output: npt.NDArray[Any] = result.numpy()
        return output

    def _choose_target(self, lock: BundleLock, names: Sequence[str]) -> str:
        return choose_target(lock, host_cpu(), names)

    def _open_device(self) -> Any:
        from tvm.runtime import device

        return device(self.DEVICE, 0)

    def _load(self, library: Path) -> None:
        """Set the library, the machine that runs it, and its own description."""
        from tvm.runtime.vm import VirtualMachine

        # TVM's own function follows links, and the Hub's cache links to names without a suffix.
        from tvm_ffi import load_module

        try:
            # It stays: a process that unloaded libraries, and their kernels with them, crashed now and then.
            self._library = load_module(library)
            self._machine = VirtualMachine(self._library, self._device)
            self.metadata: dict[str, Any] = json.loads(self._machine["_metadata"]())
            int(self.metadata["abi_version"])
        # Whatever TVM's loader threw in C++.
        except Exception as error:
            raise BundleError(f"{library} is no model library: {error}. {REBUILD}") from error

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        from tvm.runtime import tensor

        return tensor(np.ascontiguousarray(array), self._device)

    def _embed(self, ids: npt.NDArray[np.int32], lead: tuple[int, ...]) -> Any:
        rows = self._machine["embed"](self._tensor(ids), self._parameters)
        return rows._create_view((*lead, rows.shape[1]))

    def _forward(
        self, function: str, sequences: Sequence[int], lengths: Sequence[int], *inputs: Any
    ) -> Logits:
        with self._step(sequences, lengths):
            result = self._machine[function](*inputs, self._cache, self._parameters)
        logits: Logits = result[0].numpy()
        return logits

    @contextmanager
    def _step(self, sequences: Sequence[int], lengths: Sequence[int]) -> Iterator[None]:
        from tvm_ffi import Shape

        self._functions.begin(self._cache, Shape(list(sequences)), Shape(list(lengths)))
        yield
        self._functions.end(self._cache)

    def _use_threads(self, count: int) -> None:
        """Set up the calling thread's pool, which at first has half the cores of an x86 CPU."""
        if count != self._threads_in_use:
            self._functions.configure_threads(SHARE_CORES, count, self._cores)
            self._threads_in_use = count


class _Functions:
    """Functions of TVM's runtime, looked up once."""

    def __init__(self, machine: Any) -> None:
        from tvm_ffi import get_global_func

        state = "vm.builtin.kv_state_"
        self.begin = get_global_func(f"{state}begin_forward")
        self.end = get_global_func(f"{state}end_forward")
        self.clear = get_global_func(f"{state}clear")
        self.add = get_global_func(f"{state}add_sequence")
        self.remove = get_global_func(f"{state}remove_sequence")
        self.fork = get_global_func(f"{state}fork_sequence")
        self.pop = get_global_func(f"{state}popn")
        self.available_pages = get_global_func(
            "vm.builtin.attention_kv_cache_get_num_available_pages"
        )
        self.clear_pools = get_global_func("vm.builtin.memory_manager.clear")
        self.configure_threads = get_global_func("runtime.config_threadpool")


def _require_agreement(bundle: Path, library: Path, metadata: Mapping[str, Any]) -> None:
    """Raise BundleError if the library was compiled for another model than the files describe."""
    lock, chat = read_lock(bundle), json.loads(read_plain(bundle, CHAT_CONFIG))
    described = {
        **(chat.get("model_config") or {}),
        "quantization": lock.model.quantization,
        "vocab_size": chat["vocab_size"],
        "context_window_size": lock.model.context_window_size,
    }
    compiled = {**metadata["model_config"], **{name: metadata[name] for name in OUTER_FIELDS}}
    for name in sorted(compiled.keys() | described.keys()):
        if compiled.get(name) != described.get(name):
            raise BundleError(
                f"{library} was compiled for another model: its {name} is {compiled.get(name)!r}, "
                f"and the bundle's {described.get(name)!r}. {REBUILD}"
            )


def named_targets(lock: BundleLock, name: str) -> list[str]:
    """What people mean by `name`: the target of this name, else the libraries of GPUs that are of this group.

    Groups begin the names of their targets, as "vulkan", "vulkan-x86-64" and "vulkan-x86-64-software" do.
    """
    if name in lock.targets:
        return [name]
    gpus = [each for each, target in lock.targets.items() if target.device != "cpu"]
    return [each for each in gpus if each.startswith(f"{name}-")]


def _known_targets(bundle: Path, name: str | None) -> tuple[BundleLock, list[str]]:
    """The bundle's lock, and its targets of that name, or all without one; raises BundleError."""
    lock = read_lock(bundle)
    if lock.abi_version != ABI_VERSION:
        raise BundleError(
            f"{bundle} has ABI {lock.abi_version} and this mlc-edge has {ABI_VERSION}: "
            "build the bundle again."
        )
    names = list(lock.targets) if name is None else named_targets(lock, name)
    if name is not None and not names:
        raise BundleError(
            f"{bundle} has no library for {name!r} (it has: {', '.join(lock.targets)}): "
            f"build it with --target {name}."
        )
    return lock, names
