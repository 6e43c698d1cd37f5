"""Compiles TVM's wasm runtime to object files, once for each set of versions and flags."""

import hashlib
import importlib.metadata
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mlc_edge.errors import ToolchainError
from webbuild.cache import cache_folder
from webbuild.wasm.emscripten import Emscripten, find_emscripten

HEADERS = Path(__file__).parent / "headers"
UNITS = ("wasm_runtime", "tvmjs_support", "webgpu_runtime")
FLAGS = (
    "-Os",
    "-std=c++17",
    "-Wno-ignored-attributes",
    "-DTVM_FFI_USE_LIBBACKTRACE=0",
    "-I.",
    "-Iinclude",
    "-I3rdparty/tvm-ffi/include",
)
WHEELS = ("apache-tvm", "apache-tvm-ffi")
# The namespace in tvmjs_support.cc serves remote procedure calls alone.
RPC_SESSION = "namespace tvm {\nnamespace runtime {"


def runtime_objects() -> list[Path]:
    """Paths of the runtime's object files, compiled now if they are not in the cache.

    Raises ToolchainError if emscripten is missing or fails.
    """
    emscripten = find_emscripten()
    folder = cache_folder() / f"wasm-runtime-{_fingerprint(emscripten)}"
    if not folder.exists():
        _compile_runtime(emscripten, folder)
    return [folder / f"{unit}.o" for unit in UNITS]


def _compile_runtime(emscripten: Emscripten, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="wasm-runtime-partial-") as stage:
        sources, objects = Path(stage, "sources"), Path(stage, "objects")
        stage_sources(sources)
        objects.mkdir()
        for unit in UNITS:
            arguments = [*FLAGS, "-c", f"web/emcc/{unit}.cc", "-o", str(objects / f"{unit}.o")]
            emscripten.run(arguments, cwd=sources)
        # Another build may have been faster.
        if not folder.exists():
            objects.rename(folder)


def _fingerprint(emscripten: Emscripten) -> str:
    digest = hashlib.sha256()
    for wheel in WHEELS:
        digest.update(f"{wheel} {importlib.metadata.version(wheel)}\n".encode())
    digest.update(f"emscripten {emscripten.version} {FLAGS}\n".encode())
    for path in (Path(__file__), *sorted(p for p in HEADERS.rglob("*") if p.is_file())):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ToolchainError(f"the package {name} is not installed: run `pip install mlc-edge`.")
    return Path(spec.origin).parent


def stage_sources(folder: Path) -> None:
    """Lay the wheels' sources out as TVM's repository has them, with our support headers."""
    tvm, ffi = _package_folder("tvm"), _package_folder("tvm_ffi")
    shutil.copytree(tvm / "src", folder / "src")
    shutil.copytree(tvm / "include", folder / "include")
    shutil.copytree(tvm / "web" / "emcc", folder / "web" / "emcc")
    shutil.copytree(ffi / "src", folder / "3rdparty/tvm-ffi/src")
    shutil.copytree(ffi / "include", folder / "3rdparty/tvm-ffi/include")
    shutil.copytree(HEADERS, folder, dirs_exist_ok=True)
    _leave_out_rpc(folder / "web" / "emcc")


def _leave_out_rpc(sources: Path) -> None:
    runtime = sources / "wasm_runtime.cc"
    kept = [
        line
        for line in runtime.read_text().splitlines()
        if "src/runtime/rpc/" not in line and "testing/testing.cc" not in line
    ]
    runtime.write_text("\n".join(kept) + "\n")
    support = sources / "tvmjs_support.cc"
    head, found, _ = support.read_text().partition(RPC_SESSION)
    if not found:
        raise ToolchainError(
            "tvmjs_support.cc of the installed apache-tvm looks different than expected: "
            "install the version that pyproject.toml pins."
        )
    support.write_text(head.replace('#include "../../src/runtime/rpc/rpc_local_session.h"', ""))
