"""Links a model's object files with TVM's runtime into one WebAssembly module."""

from pathlib import Path
from typing import Any

from webbuild.wasm.emscripten import find_emscripten
from webbuild.wasm.runtime import runtime_objects

FLAGS = (
    # Above -O1, em++ has wasm-opt work for half a minute; OPTIMISATIONS take a fifth of that.
    "-O1",
    "-g0",
    "-Wl,--strip-all",
    "--no-entry",
    "-sSTANDALONE_WASM=1",
    "-sWASM_BIGINT=1",
    "-sALLOW_MEMORY_GROWTH=1",
    # tvmjs provides the two functions that are left: TVMFFIWasmSafeCall and its deleter.
    "-sERROR_ON_UNDEFINED_SYMBOLS=0",
)
# What LLVM 22 puts into object files, of what Debian's wasm-opt knows.
FEATURES = (
    "--mvp-features",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-simd",
)
# Measured: they bring the module within a twentieth of -Os's size.
OPTIMISATIONS = (
    "-O1",
    "--duplicate-function-elimination",
    "--dae",
    "--code-folding",
    "--coalesce-locals",
    "--low-memory-unused",
    "--zero-filled-memory",
)


def link(output: str, objects: list[str], options: Any = None, **_: Any) -> None:
    """Write the wasm module `output`; has the form of TVM's `export_library(fcompile=...)`.

    Raises ToolchainError if emscripten is missing or fails.
    """
    emscripten = find_emscripten()
    path = Path(output).resolve()
    inputs = [*map(str, runtime_objects()), *map(str, objects)]
    emscripten.run([*inputs, "-o", str(path), *(options or ()), *FLAGS])
    emscripten.run_wasm_opt([str(path), "-o", str(path), *FEATURES, *OPTIMISATIONS])


# Debian's emscripten can't read the bitcode of TVM's newer LLVM, so TVM must hand over objects.
link.object_format = "o"  # type: ignore[attr-defined]
