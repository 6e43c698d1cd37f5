"""Tensor programs called on the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.target import Target
from tvm_ffi import load_module

from tests.gpu.models import target_name
from webbuild.targets import profiles_for

Function = Callable[..., None]


def compiled(programs: dict[str, Any], target: Target, path: Path) -> Callable[[str], Function]:
    """Programs by name; arrays that they are called with become what they write."""
    tvm.compile(named(programs), target=target).export_library(str(path))
    return functions(path, tvm.device("webgpu", 0))


def compiled_for_any(programs: dict[str, Any], path: Path) -> Callable[[str], Function]:
    """The same for any GPU that Vulkan has."""
    (profile,) = profiles_for(target_name("f32"), "q4f16_1")
    with Target(profile.tvm_target, host=profile.tvm_host) as target:
        return compiled(programs, target, path)


def named(programs: dict[str, Any]) -> tvm.IRModule:
    """Programs as a library has them."""
    found = {name: program.with_attr("global_symbol", name) for name, program in programs.items()}
    return tvm.IRModule(found)


def functions(path: Path, gpu: Any) -> Callable[[str], Function]:
    """Of a library; arrays that they are called with become what they write."""
    library = load_module(path)

    def function(name: str) -> Function:
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
