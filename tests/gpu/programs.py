"""Tensor programs called on the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.target import Target
from tvm_ffi import load_module


def compiled(
    programs: dict[str, Any], target: Target, path: Path
) -> Callable[[str], Callable[..., None]]:
    """Programs by name; arrays that they are called with become what they write."""
    named = {name: program.with_attr("global_symbol", name) for name, program in programs.items()}
    tvm.compile(tvm.IRModule(named), target=target).export_library(str(path))
    library, gpu = load_module(path), tvm.device("webgpu", 0)

    def function(name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            tensors = [
                tvm.runtime.tensor(a, gpu) if isinstance(a, np.ndarray) else a for a in arguments
            ]
            library[name](*tensors)
            for array, tensor in zip(arguments, tensors, strict=True):
                if isinstance(array, np.ndarray):
                    array[...] = tensor.numpy()

        return call

    return function
