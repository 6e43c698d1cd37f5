"""A GPU that this machine's CPU stands in for: it computes PTX, and TVM's runtime for CUDA works with it."""

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import POCKET

SOURCES = Path(__file__).parent / "driver"
FLAGS = ("-std=c++17", "-O2", "-mf16c", "-mfma", "-fPIC", "-Wall", "-Werror")
DRIVER, RUNTIME = "libcuda.so.1", "libcudart.so.13"


def compile_driver(folder: Path) -> None:
    """Both libraries of the stand-in."""
    import nvidia.cu13

    (packages,) = nvidia.cu13.__path__
    parts = ("parse", "handlers", "launch", "cuda")

    def compile_part(name: str) -> Path:
        made = folder / f"{name}.o"
        include = f"-I{packages}/include"
        subprocess.run(
            ["g++", *FLAGS, include, "-c", SOURCES / f"{name}.cc", "-o", made], check=True
        )
        return made

    with ThreadPoolExecutor() as threads:
        objects = list(threads.map(compile_part, parts))
    shared = ("g++", *FLAGS, "-shared")
    driver, runtime = folder / DRIVER, folder / RUNTIME
    subprocess.run(
        [
            *shared,
            f"-Wl,-soname,{DRIVER},--version-script={SOURCES / 'cuda.map'}",
            "-o",
            driver,
            *objects,
        ],
        check=True,
    )
    versions = f"-Wl,-soname,{RUNTIME},--version-script={SOURCES / 'cudart.map'}"
    command = [*shared, versions, "-o", runtime, SOURCES / "cudart.cc", driver]
    subprocess.run(command, check=True)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in's libraries, for LD_LIBRARY_PATH."""
    folder = tmp_path_factory.mktemp("driver")
    compile_driver(folder)
    return folder


@pytest.fixture(scope="session")
def environment(driver: Path) -> dict[str, str]:
    """Of a process on a machine with the stand-in."""
    return {**os.environ, "LD_LIBRARY_PATH": str(driver)}


@pytest.fixture(scope="session")
def device(driver: Path) -> None:
    """The stand-in for this process, where kernels are compiled, too."""
    import tvm  # noqa: F401

    for name in (DRIVER, RUNTIME):
        ctypes.CDLL(str(driver / name), ctypes.RTLD_GLOBAL)
    from mlc_edge.cuda.runtime import load_runtime

    load_runtime()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The embedded model for this machine's CPU and for the stand-in; only to be read."""
    output = tmp_path_factory.mktemp("cuda") / "pocket-q4f16_1"
    targets = ("--target", "native", "--target", "cuda-native")
    options = ("--quant", "q4f16_1", "--no-measure", "-o", output)
    command = [sys.executable, "-m", "mlc_edge", "build", POCKET, *targets, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output
