"""Runs a model library with TVM's runtime: the only module that touches TVM on a device."""

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.bundle import ABI_VERSION, BundleTarget, read_lock
from mlc_edge.errors import BundleError
from mlc_edge.parameters import load_parameters

# Read by tvm when it is imported: the 3 MB runtime library is enough to run a model.
RUNTIME_ONLY = "TVM_USE_RUNTIME_LIB"
PAGE_TOKENS = 16
SEQUENCE = 0

Logits = npt.NDArray[np.float32]


class ModelRunner:
    """One sequence on one device; token ids in, logits float32 [V] out."""

    def __init__(self, bundle: Path, target: str = "native") -> None:
        """Load `target`'s library and weights.

        Raises BundleError if the bundle is damaged, lacks the target or has another ABI.
        """
        _import_runtime()
        import tvm_ffi
        from tvm.runtime import device, load_module
        from tvm.runtime.vm import VirtualMachine

        chosen = _target(bundle, target)
        self._device = device("cpu", 0)
        self._machine = VirtualMachine(load_module(str(bundle / chosen.library)), self._device)
        self._begin = tvm_ffi.get_global_func("vm.builtin.kv_state_begin_forward")
        self._end = tvm_ffi.get_global_func("vm.builtin.kv_state_end_forward")
        self._clear = tvm_ffi.get_global_func("vm.builtin.kv_state_clear")
        self._add = tvm_ffi.get_global_func("vm.builtin.kv_state_add_sequence")
        self._pop = tvm_ffi.get_global_func("vm.builtin.kv_state_popn")
        self.metadata: dict[str, Any] = json.loads(self._machine["_metadata"]())
        if self.metadata["abi_version"] != ABI_VERSION:
            raise BundleError(
                f"{bundle / chosen.library} has ABI {self.metadata['abi_version']} and this "
                f"mlc-edge has {ABI_VERSION}: build the bundle again."
            )
        self._parameters = load_parameters(
            bundle, chosen.parameters, self.metadata["params"], self._device
        )
        self._cache = self._create_cache()
        self.reset()

    @property
    def context_window_size(self) -> int:
        """Tokens that a sequence may have."""
        return int(self.metadata["context_window_size"])

    def reset(self) -> None:
        """Forget all tokens."""
        self._clear(self._cache)
        self._add(self._cache, SEQUENCE)

    def pop(self, count: int) -> None:
        """Forget the last `count` tokens."""
        self._pop(self._cache, SEQUENCE, count)

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens, in chunks of the library's size; logits after the last one."""
        chunk = int(self.metadata["prefill_chunk_size"])
        for start in range(0, len(token_ids), chunk):
            logits = self._forward("prefill", token_ids[start : start + chunk])
        return logits[0, 0]

    def decode(self, token_id: int) -> Logits:
        """Append one token; logits after it."""
        return self._forward("decode", [token_id])[0, 0]

    def verify(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens; logits [n, V] after each of them."""
        return self._forward("batch_verify", token_ids)[0]

    def call(self, function: str, *arguments: Any) -> Any:
        """Call another of the library's functions; NumPy arrays become tensors of the device."""
        converted = [self._tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        return self._machine[function](*converted)

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        from tvm.runtime import tensor

        return tensor(np.ascontiguousarray(array), self._device)

    def _forward(self, function: str, token_ids: Sequence[int]) -> Logits:
        from tvm_ffi import Shape

        ids = self._tensor(np.asarray(token_ids, np.int32))
        embeddings = self._machine["embed"](ids, self._parameters)
        rows = embeddings.numpy()[None]
        self._begin(self._cache, Shape([SEQUENCE]), Shape([len(token_ids)]))
        result = self._machine[function](self._tensor(rows), self._cache, self._parameters)
        self._end(self._cache)
        logits: Logits = result[0].numpy()
        return logits

    def _create_cache(self) -> Any:
        from tvm_ffi import Shape

        sizes = (1, self.context_window_size, self.metadata["prefill_chunk_size"], PAGE_TOKENS, 0)
        return self._machine["create_tir_paged_kv_cache"](*(Shape([int(size)]) for size in sizes))


def _import_runtime() -> None:
    """Import TVM without its compiler; child processes are not told to do the same."""
    chosen = os.environ.get(RUNTIME_ONLY)
    os.environ[RUNTIME_ONLY] = chosen or "1"
    try:
        importlib.import_module("tvm.runtime")
    finally:
        if chosen is None:
            del os.environ[RUNTIME_ONLY]


def _target(bundle: Path, name: str) -> BundleTarget:
    targets = read_lock(bundle).targets
    if name not in targets:
        raise BundleError(
            f"{bundle} has no library for {name!r} (it has: {', '.join(targets)}): "
            f"build it with --target {name}."
        )
    return targets[name]
