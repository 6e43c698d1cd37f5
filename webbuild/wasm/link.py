"""Links a model's object files with TVM's runtime into one WebAssembly module."""

from pathlib import Path
from typing import Any

from webbuild.wasm.emscripten import find_emscripten
from webbuild.wasm.runtime import runtime_objects

FLAGS = (
    "-Os",
    "--no-entry",
    "-s",
    "STANDALONE_WASM=1",
    "-s",
    "WASM_BIGINT=1",
    "-s",
    "ALLOW_MEMORY_GROWTH=1",
    # tvmjs provides the two functions that are left: TVMFFIWasmSafeCall and its deleter.
    "-s",
    "ERROR_ON_UNDEFINED_SYMBOLS=0",
)


def link(output: str, objects: list[str], options: Any = None, **_: Any) -> None:
    """Write the wasm module `output`; has the form of TVM's `export_library(fcompile=...)`.

    Raises ToolchainError if emscripten is missing or fails.
    """
    inputs = [*map(str, runtime_objects()), *map(str, objects)]
    find_emscripten().run([*inputs, "-o", str(Path(output).resolve()), *(options or ()), *FLAGS])


# Debian's emscripten can't read the bitcode of TVM's newer LLVM, so TVM must hand over objects.
link.object_format = "o"  # type: ignore[attr-defined]
