"""TVM's WebGPU runtime, which libraries for browsers carry, compiled for this machine.

`web/emcc/webgpu_runtime.cc` of TVM's wheel, unchanged: in a browser JavaScript offers it a device, here
tests.gpu.device does.
"""

import ctypes
import hashlib
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import tvm
import tvm_ffi.libinfo

from webbuild.cache import cache_folder
from webbuild.wasm.runtime import HEADERS, stage_sources

FLAGS = ("-O1", "-std=c++17", "-shared", "-fPIC", "-w")
GUARD = Path(__file__).with_name("guard.cc")
INCLUDES = ("-I.", "-Iinclude", "-I3rdparty/tvm-ffi/include", "-I3rdparty/dlpack/include")


def load_runtime() -> None:
    """Make `tvm.device("webgpu")` and libraries with WGSL known to this process."""
    ctypes.CDLL(str(_library()), ctypes.RTLD_GLOBAL)


def _library() -> Path:
    digest = hashlib.sha256(f"{version('apache-tvm')} {version('apache-tvm-ffi')} {FLAGS}".encode())
    for path in (GUARD, *sorted(p for p in HEADERS.rglob("*") if p.is_file())):
        digest.update(path.read_bytes())
    library = cache_folder() / f"webgpu-runtime-{digest.hexdigest()[:12]}.so"
    if not library.exists():
        _compile(library)
    return library


def _compile(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    runtime = Path(tvm.__file__).parent / "lib"
    ffi = Path(tvm_ffi.libinfo.find_libtvm_ffi()).parent
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="webgpu-partial-") as stage:
        sources, partial = Path(stage, "sources"), Path(stage, library.name)
        stage_sources(sources)
        links = [f"-L{runtime}", "-ltvm_runtime", f"-L{ffi}", "-ltvm_ffi"]
        units = ["web/emcc/webgpu_runtime.cc", str(GUARD), "-o", str(partial)]
        subprocess.run(["g++", *FLAGS, *INCLUDES, *units, *links], cwd=sources, check=True)
        partial.replace(library)
