"""Tensor programs compiled to PTX, and called on the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.support import cc
from tvm.target import Target
from tvm_ffi import load_module

from webbuild.cuda.compiler import find_compiler
from webbuild.cuda.packing import leave_source, pack_with_ptx
from webbuild.targets import CUDA_LIMITS

CAPABILITY = 87
TARGET = Target(
    {"kind": "cuda", "arch": f"sm_{CAPABILITY}", **CUDA_LIMITS},
    host={"kind": "llvm", "mtriple": "x86_64-linux-gnu"},
)


def compiled(programs: dict[str, Any], path: Path) -> Callable[[str], Callable[..., None]]:
    """Programs by name; arrays that they are called with become what they write."""
    named = {name: program.with_attr("global_symbol", name) for name, program in programs.items()}
    compiler = find_compiler("cuda")
    leave_source()
    tvm.compile(tvm.IRModule(named), target=TARGET).export_library(
        str(path),
        fcompile=cc.cross_compiler("g++"),
        fpack_imports=pack_with_ptx(lambda source: compiler.compile(source, CAPABILITY)),
    )
    library, gpu = load_module(path), tvm.device("cuda", 0)

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
