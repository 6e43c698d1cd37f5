"""Finds the plugin that gives TVM's runtime a Vulkan device, or compiles it once for these versions."""

import fcntl
import hashlib
import os
import re
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
from typing import Literal

from mlc_edge.errors import ConfigError, ToolchainError
from mlc_edge.files import hash_file
from mlc_edge.places import cache_folder

SOURCES = Path(__file__).parent / "plugin"
# What TVM's headers include and its wheel lacks: the build for browsers needs the same.
SUPPORT = Path(__file__).parents[2] / "webbuild/wasm/headers"
# Where mlc_edge.vulkan.ship puts what the package brings.
SHIPPED = Path(__file__).parent / "shipped"
# What is shipped runs with this one and newer ones: that of JetPack 6, older than Raspberry Pi OS 12's.
GLIBC = (2, 35)
FLAGS = ("-O2", "-std=c++17", "-shared", "-fPIC", "-w", "-s")
COMPILERS = ("g++", "clang++")
WHEELS = ("apache-tvm", "apache-tvm-ffi", "wgpu")
PARTIAL = ".partial-"
FOLDER_MODE, PLUGIN_MODE = 0o700, 0o755
# Of a SHA-256 in hexadecimal.
DIGITS = 16
# Its library runs whatever Python there is, but its metadata refuses older ones.
FOR_OLDER_PYTHON = "pip install --no-deps --ignore-requires-python wgpu==0.32.0"
INSTALL = (
    f"install it with `{FOR_OLDER_PYTHON}`."
    if sys.version_info < (3, 11)
    else "install it with `pip install 'mlc-edge[vulkan]'`."
)


def wgpu_native() -> Path:
    """The library of the package wgpu that runs WGSL on Vulkan; raises ConfigError if it isn't installed."""
    found = sorted((_package("wgpu") / "resources").glob("libwgpu_native*.so"))
    if not found:
        raise ConfigError(f"the package wgpu has no libwgpu_native for this machine: {INSTALL}")
    return found[0]


def plugin_library() -> Path:
    """The plugin for this machine: the package's if it fits, else one that is compiled once.

    It fits if it was made of these sources and for the versions that are installed. Raises ConfigError if a
    package is missing or others may write where plugins are compiled, ToolchainError if there is no compiler
    or it fails.
    """
    if shipped := _shipped():
        return shipped
    if _folder().exists():
        _require_own(_folder())
    library = _compiled() or _compile()
    _require_own(library)
    return library


def plugin_origin() -> Literal["shipped", "compiled"] | None:
    """Where `plugin_library` would find the plugin; None if it would have to compile it."""
    if find_spec("wgpu") is None:
        return None
    if _shipped():
        return "shipped"
    return "compiled" if _compiled() else None


def is_compiled() -> bool:
    """Whether `plugin_library` would find it compiled."""
    return plugin_origin() is not None


def named_plugin(folder: Path, machine: str, digest: str = "*") -> Path:
    """The place of a plugin in `folder`; `machine` as uname tells it.

    Its name tells what it was made of and for, and its content's hash.
    """
    return folder / f"plugin-{machine}-{_fingerprint(machine)}-{digest}.so"


def whole_plugins(folder: Path, machine: str) -> Iterator[Path]:
    """Those that are as they were compiled.

    A power cut may leave others, which would end the process that loads them.
    """
    for path in sorted(folder.glob(named_plugin(folder, machine).name)):
        if path.stem.endswith(f"-{plugin_digest(path)}"):
            yield path


def plugin_digest(path: Path) -> str:
    """Of its content, as its name tells it."""
    return hash_file(path)[:DIGITS]


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
    unnamed = _folder() / f"new-{os.getpid()}.so"
    compile_plugin(unnamed, compiler)
    return unnamed.replace(named_plugin(_folder(), _machine(), plugin_digest(unnamed)))


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


def _shipped() -> Path | None:
    # Whoever may write it may write this program as well: it isn't asked whose it is.
    if _glibc() < GLIBC:
        return None
    return next(whole_plugins(SHIPPED, _machine()), None)


def _compiled() -> Path | None:
    """One that others may not write."""
    found = whole_plugins(_folder(), _machine())
    return next((path for path in found if not _is_open(path)), None)


def _glibc() -> tuple[int, ...]:
    """This machine's; empty for another C library."""
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        told = ""
    return tuple(map(int, re.findall(r"\d+", told)))


def _machine() -> str:
    return os.uname().machine


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


def _includes() -> Iterator[str]:
    tvm, ffi, wgpu = map(_package, ("tvm", "tvm_ffi", "wgpu"))
    folders = (tvm / "include", tvm, ffi / "include", wgpu / "resources")
    for folder in (*folders, SUPPORT / "include", SUPPORT):
        yield f"-I{folder}"


def _fingerprint(machine: str) -> str:
    # Raises ConfigError where it is missing.
    _package("wgpu")
    digest = hashlib.sha256(f"{FLAGS} {machine}\n".encode())
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
