"""Tensor programs compiled to PTX, and called on the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from tvm.support import cc
from tvm.target import Target

from tests.gpu.programs import Function, functions, named
from webbuild.cuda.compiler import find_compiler
from webbuild.cuda.packing import leave_source, pack_with_ptx
from webbuild.targets import CUDA_LIMITS

CAPABILITY = 87
TARGET = Target(
    {"kind": "cuda", "arch": f"sm_{CAPABILITY}", **CUDA_LIMITS},
    host={"kind": "llvm", "mtriple": "x86_64-linux-gnu"},
)


def compiled(programs: dict[str, Any], path: Path) -> Callable[[str], Function]:
    """Programs by name; arrays that they are called with become what they write."""
    compiler = find_compiler("cuda")
    leave_source()
    with TARGET:
        tvm.compile(named(programs), target=TARGET).export_library(
            str(path),
            fcompile=cc.cross_compiler("g++"),
            fpack_imports=pack_with_ptx(lambda source: compiler.compile(source, CAPABILITY)),
        )
    return functions(path, tvm.device("cuda", 0))
