"""Compilers of C++ for NVIDIA's GPUs: NVRTC of PyPI's packages, or a toolkit's nvcc."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlc_edge.errors import ToolchainError

# Where PyPI's packages of CUDA 13 lie.
PACKAGES = "nvidia.cu13"
NVRTC, BUILTINS = "libnvrtc.so.13", "libnvrtc-builtins.so.13.*"
# No quick functions: of large positions they would give sines that are far off.
OPTIONS = ("-default-device", "--std=c++17", "--disable-warnings")


@dataclass(frozen=True)
class CudaCompiler:
    """Compiles C++ for a compute capability; drivers of `version`, 13000 for 13.0, know its PTX."""

    version: int
    compile: Callable[[str, int], bytes]


def find_compiler(target: str) -> CudaCompiler:
    """NVRTC of PyPI's packages, else nvcc; raises ToolchainError if there is neither."""
    compiler = _find_nvrtc() or _find_nvcc()
    if compiler is None:
        raise ToolchainError(
            f"target {target} needs a compiler for CUDA: install NVRTC by `pip install 'mlc-edge[cuda]'`, "
            "or NVIDIA's toolkit, with nvcc on the PATH."
        )
    return compiler


def _find_nvrtc() -> CudaCompiler | None:
    try:
        spec = importlib.util.find_spec(PACKAGES)
    except ModuleNotFoundError:
        return None
    for place in spec.submodule_search_locations or () if spec else ():
        folder = Path(place)
        if (folder / "lib" / NVRTC).exists() and (folder / "include/cccl").exists():
            return _nvrtc(folder)
    return None


def _nvrtc(folder: Path) -> CudaCompiler:
    # It looks for them by name, where it isn't told of this folder.
    for builtins in (folder / "lib").glob(BUILTINS):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "lib" / NVRTC))
    major, minor = c_int(), c_int()
    library.nvrtcVersion(byref(major), byref(minor))
    include = folder / "include"
    options = (*OPTIONS, f"-I{include}", f"-I{include / 'cccl'}")
    return CudaCompiler(
        1000 * major.value + 10 * minor.value, partial(_compile_by_nvrtc, library, options)
    )


def _compile_by_nvrtc(
    library: ctypes.CDLL, options: tuple[str, ...], source: str, capability: int
) -> bytes:
    given = [f"--gpu-architecture=compute_{capability}", *options]
    program = c_void_p()
    library.nvrtcCreateProgram(byref(program), source.encode(), b"kernels.cu", 0, None, None)
    try:
        texts = (c_char_p * len(given))(*(option.encode() for option in given))
        if library.nvrtcCompileProgram(program, len(given), texts):
            log = _text_of(library, "ProgramLog", program).decode(errors="replace")
            raise ToolchainError(f"NVRTC can't compile kernels for sm_{capability}: {log.strip()}")
        return _text_of(library, "PTX", program)
    finally:
        library.nvrtcDestroyProgram(byref(program))


def _text_of(library: ctypes.CDLL, what: str, program: c_void_p) -> bytes:
    size = c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, text)
    return text.value


def _find_nvcc() -> CudaCompiler | None:
    program = shutil.which("nvcc")
    if program is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True)
    release = re.search(r"release (\d+)\.(\d+)", told.stdout)
    if release is None:
        return None
    return CudaCompiler(
        1000 * int(release[1]) + 10 * int(release[2]), partial(_compile_by_nvcc, program)
    )


def _compile_by_nvcc(program: str, source: str, capability: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        kernels, ptx = Path(folder, "kernels.cu"), Path(folder, "kernels.ptx")
        kernels.write_text(source)
        command = [
            program,
            "--ptx",
            f"-arch=compute_{capability}",
            "-std=c++17",
            "--disable-warnings",
        ]
        done = subprocess.run([*command, "-o", ptx, kernels], capture_output=True, text=True)
        if done.returncode:
            raise ToolchainError(f"nvcc can't compile kernels for sm_{capability}: {done.stderr}")
        return ptx.read_bytes()
