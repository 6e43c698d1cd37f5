"""Libraries with PTX in the place of the C++ that TVM leaves in them where there is no driver for CUDA.

A driver of the compiler's version or a newer one compiles PTX for the GPU that it finds, which may be a
later one than was thought of.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlc_edge.errors import ToolchainError

# How TVM's CUDA modules call what they hold.
SOURCE, PTX = b"cuda", b"ptx"
LIBRARY_ITSELF = b"_lib"
# Of TVM's runtime for CUDA, which is loaded where a driver is.
CREATE = "ffi.Module.create.cuda"
PACKED_IN = """\
.section .rodata
.balign 64
.globl {symbol}
{symbol}:
.incbin "{path}"
.section .note.GNU-stack,"",%progbits
"""


def leave_source() -> None:
    """Have TVM leave C++ in its modules on machines with a driver, too: it would compile for their GPU."""
    from tvm_ffi.registry import get_global_func, remove_global_func

    if get_global_func(CREATE, allow_missing=True) is not None:
        remove_global_func(CREATE)


def pack_with_ptx(compile: Callable[[str], bytes]) -> Callable[[Any, bool, str, str], str]:
    """What packs a library's modules for `export_library`, CUDA's as PTX."""

    def pack(module: Any, _is_system: bool, prefix: str, folder: str) -> str:
        from tvm_ffi import get_global_func

        blob = get_global_func("runtime.ModulePackImportsToTensor")(module).numpy().tobytes()
        symbol = prefix + get_global_func("runtime.ModuleImportsBlobName")()
        binary, assembler = Path(folder, "imports.bin"), Path(folder, "imports.s")
        binary.write_bytes(_compiled(blob, _sources(module), compile))
        assembler.write_text(PACKED_IN.format(symbol=symbol, path=binary))
        return str(assembler)

    return pack


def _sources(module: Any) -> list[bytes]:
    """C++ of the CUDA modules that `module` imports, as they lie in its package."""
    own = [module.inspect_source().encode()] if module.kind == "cuda" else []
    return own + [source for imported in module.imports for source in _sources(imported)]


def _compiled(blob: bytes, sources: list[bytes], compile: Callable[[str], bytes]) -> bytes:
    """A library's binary (tvm_ffi, src/ffi/extra/library_module.cc) with PTX for `sources`."""
    fields = _Fields(blob[8:])
    tree = fields.numbers() + fields.numbers()
    out = [tree]
    while fields.is_left:
        kind = fields.text()
        out.append(_sized(kind))
        if kind == LIBRARY_ITSELF:
            continue
        content = fields.text()
        if kind == SOURCE:
            content = _with_ptx(content, sources, compile)
        out.append(_sized(content))
    whole = b"".join(out)
    return struct.pack("<Q", len(whole)) + whole


def _with_ptx(content: bytes, sources: list[bytes], compile: Callable[[str], bytes]) -> bytes:
    """A CUDA module's content: what it holds, the functions' arguments, and that."""
    head = _sized(SOURCE)
    for source in sources:
        tail = _sized(source)
        if content.startswith(head) and content.endswith(tail):
            functions = content[len(head) : -len(tail)]
            return _sized(PTX) + functions + _sized(compile(source.decode()))
    raise ToolchainError(
        "TVM packs CUDA kernels in another way than 0.27 does: install that version."
    )


class _Fields:
    """Reads what TVM's streams hold: sizes, and so many bytes or numbers."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    @property
    def is_left(self) -> bool:
        return self._place < len(self._content)

    def text(self) -> bytes:
        (size,) = struct.unpack("<Q", self._take(8))
        return self._take(size)

    def numbers(self) -> bytes:
        """A vector of numbers, as it is stored."""
        size = self._take(8)
        return size + self._take(8 * struct.unpack("<Q", size)[0])

    def _take(self, count: int) -> bytes:
        self._place += count
        return self._content[self._place - count : self._place]


def _sized(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content
