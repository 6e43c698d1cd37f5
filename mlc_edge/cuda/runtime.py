"""TVM's runtime for CUDA, which is loaded only where that is asked for."""

import ctypes
import importlib.util
from ctypes import byref, c_int, c_size_t
from pathlib import Path

from mlc_edge.errors import ConfigError
from mlc_edge.tvm_runtime import import_runtime

CUDART = "libcudart.so.13"
# Where PyPI's package nvidia-cuda-runtime puts it.
PACKAGES = "nvidia.cu13"
INSTALL = "install it by `pip install 'mlc-edge[cuda]'`"


def load_runtime() -> None:
    """Give TVM its CUDA device; raises ConfigError if a library is missing that it needs."""
    if _libraries:
        return
    import_runtime()
    import tvm

    library = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
    cudart = _load_cudart()
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise ConfigError(
            f"TVM's runtime for CUDA can't be loaded: {error}. It needs NVIDIA's driver and {CUDART}: "
            f"{INSTALL}."
        ) from error
    _libraries.append(cudart)


def free_bytes(index: int) -> int:
    """Memory of that GPU that nobody uses; raises MemoryError if it can't be opened for want of that."""
    (cudart,) = _libraries
    before, free, total = c_int(), c_size_t(), c_size_t()
    cudart.cudaGetDevice(byref(before))
    cudart.cudaSetDevice(index)
    code = cudart.cudaMemGetInfo(byref(free), byref(total))
    cudart.cudaSetDevice(before)
    if code:
        text = ctypes.CFUNCTYPE(ctypes.c_char_p, c_int)(("cudaGetErrorString", cudart))(code)
        raise RuntimeError((text or b"").decode(errors="replace"))
    return free.value


_libraries: list[ctypes.CDLL] = []


def _load_cudart() -> ctypes.CDLL:
    """The system's, which is its driver's, else the package's; TVM's runtime then finds it by its name."""
    problems = []
    for name in (CUDART, *_packaged()):
        try:
            return ctypes.CDLL(str(name), ctypes.RTLD_GLOBAL)
        except OSError as error:
            problems.append(str(error))
    raise ConfigError(f"CUDA's runtime can't be loaded ({'; '.join(problems)}): {INSTALL}.")


def _packaged() -> list[Path]:
    try:
        spec = importlib.util.find_spec(PACKAGES)
    except ModuleNotFoundError:
        return []
    places = (spec.submodule_search_locations if spec else None) or ()
    return [Path(place, "lib", CUDART) for place in places]
