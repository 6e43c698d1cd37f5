"""Compiles the plugin that gives TVM's runtime a Vulkan device, once for each set of versions."""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mlc_edge.errors import ConfigError, ToolchainError
from mlc_edge.files import hash_file
from mlc_edge.places import cache_folder

SOURCES = Path(__file__).parent / "plugin"
# What TVM's headers include and its wheel lacks: the build for browsers needs the same.
SUPPORT = Path(__file__).parents[2] / "webbuild/wasm/headers"
FLAGS = ("-O2", "-std=c++17", "-shared", "-fPIC", "-w", "-s")
COMPILERS = ("g++", "clang++")
WHEELS = ("apache-tvm", "apache-tvm-ffi", "wgpu")
PARTIAL = ".partial-"
FOLDER_MODE, PLUGIN_MODE = 0o700, 0o755
# Of a SHA-256 in hexadecimal.
DIGITS = 16
INSTALL = "install it with `pip install 'mlc-edge[vulkan]'`, which takes Python 3.11 or newer."


def wgpu_native() -> Path:
    """The library of the package wgpu that runs WGSL on Vulkan; raises ConfigError if it isn't installed."""
    found = sorted((_package("wgpu") / "resources").glob("libwgpu_native*.so"))
    if not found:
        raise ConfigError(f"the package wgpu has no libwgpu_native for this machine: {INSTALL}")
    return found[0]


def plugin_library() -> Path:
    """The plugin for this machine, compiled now if it isn't in the user's cache.

    Raises ConfigError if a package is missing or others may write where the plugin is, ToolchainError if
    there is no compiler or it fails.
    """
    if _folder().exists():
        _require_own(_folder())
    library = _compiled() or _compile()
    _require_own(library)
    return library


def is_compiled() -> bool:
    """Whether `plugin_library` would find it compiled."""
    return find_spec("wgpu") is not None and _compiled() is not None


def compile_plugin(library: Path, compiler: str) -> None:
    """Compile the plugin with `compiler`, which may be one for another CPU; raises ToolchainError.

    What it takes from TVM and wgpu-native is found where it is loaded.
    """
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=PARTIAL) as stage:
            partial = Path(stage, library.name)
            units = sorted(map(str, SOURCES.glob("*.cc")))
            command = [compiler, *FLAGS, *_includes(), *units, "-o", str(partial)]
            subprocess.run(command, check=True, capture_output=True, errors="replace")
            # Whatever the umask is.
            partial.chmod(PLUGIN_MODE)
            partial.replace(library)
    except OSError as error:
        raise ToolchainError(
            f"Vulkan's plugin can't be compiled into {library.parent}: {error}."
        ) from error
    except subprocess.CalledProcessError as error:
        told = error.stderr.strip().splitlines()[-5:]
        raise ToolchainError(
            f"{compiler} can't compile Vulkan's plugin; it needs a compiler with C++17: "
            + "\n".join(told)
        ) from error


def _compile() -> Path:
    compiler = next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise ToolchainError(
            "Vulkan's plugin is compiled when it is first used, and there is no C++ compiler: "
            "install one, e.g. `apt install g++`."
        )
    with _locked(_folder()):
        # Another process may have compiled it while this one waited.
        return _compiled() or _compile_with(compiler)


def _compile_with(compiler: str) -> Path:
    for left in _folder().glob(f"{PARTIAL}*"):
        # What a killed process began.
        shutil.rmtree(left)
    unnamed = _cached(f"new-{os.getpid()}")
    compile_plugin(unnamed, compiler)
    return unnamed.replace(_cached(_digest(unnamed)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ToolchainError(
            f"Vulkan's plugin can't be compiled into {folder}: {error}."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compiled() -> Path | None:
    """One that is whole, and that others may not write.

    A power cut may leave another, which would end the process that loads it.
    """
    closed = (p for p in sorted(_folder().glob(_cached("*").name)) if not _is_open(p))
    return next((path for path in closed if path.stem.endswith(f"-{_digest(path)}")), None)


def _is_open(path: Path) -> bool:
    """Whether others may write there what would run with our rights."""
    return bool(path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _require_own(path: Path) -> None:
    if path.stat().st_uid not in (0, os.geteuid()):
        problem, remedy = "belongs to another user", "set MLC_EDGE_CACHE to a folder of your own"
    elif _is_open(path):
        problem, remedy = "may be written by other users", f"chmod go-w {path}"
    else:
        return
    raise ConfigError(f"{path} {problem}, and is not used: {remedy}.")


def _folder() -> Path:
    return cache_folder() / "vulkan"


def _cached(digest: str) -> Path:
    return _folder() / f"plugin-{_fingerprint()}-{digest}.so"


def _digest(path: Path) -> str:
    return hash_file(path)[:DIGITS]


def _includes() -> Iterator[str]:
    tvm, ffi, wgpu = map(_package, ("tvm", "tvm_ffi", "wgpu"))
    folders = (tvm / "include", tvm, ffi / "include", wgpu / "resources")
    for folder in (*folders, SUPPORT / "include", SUPPORT):
        yield f"-I{folder}"


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{FLAGS} {os.uname().machine}\n".encode())
    # Raises ConfigError where wgpu is missing.
    digest.update(f"{wgpu_native()}\n".encode())
    for wheel in WHEELS:
        digest.update(f"{wheel} {version(wheel)}\n".encode())
    for folder in (SOURCES, SUPPORT):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:DIGITS]


def main() -> None:
    """Print the plugin's path, once it is compiled."""
    sys.stdout.write(f"{plugin_library()}\n")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(f"Vulkan needs the package {name}: {INSTALL}")
    return Path(spec.origin).parent


if __name__ == "__main__":
    main()
