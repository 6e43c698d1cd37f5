"""Finds emscripten: on PATH, in $EMSDK, or emsdk at a pinned version, downloaded once."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.errors import ToolchainError
from webbuild.cache import cache_folder

EMSDK_VERSION = "3.1.74"
EMSDK_URL = f"https://github.com/emscripten-core/emsdk/archive/refs/tags/{EMSDK_VERSION}.tar.gz"
DOWNLOAD_TIMEOUT_S = 30
# Debian's emscripten needs acorn, and looks for it in neither of the places where it may be.
NODE_MODULES = (Path("/usr/share/nodejs"), Path(__file__).parents[2] / "node_modules")


@dataclass(frozen=True)
class Emscripten:
    """A working `em++` and its version."""

    compiler: str
    version: str

    def run(self, arguments: list[str], *, cwd: Path | None = None) -> None:
        """Run em++; raises ToolchainError with the last lines of its output if it fails."""
        environment = {**os.environ, "NODE_PATH": os.pathsep.join(map(str, NODE_MODULES))}
        result = subprocess.run(
            [self.compiler, *arguments], capture_output=True, text=True, cwd=cwd, env=environment
        )
        if result.returncode:
            tail = "\n".join(result.stderr.strip().splitlines()[-20:])
            raise ToolchainError(f"em++ {self.version} failed ({result.returncode}):\n{tail}")


def find_emscripten() -> Emscripten:
    """The emscripten to use; raises ToolchainError that says how to install one."""
    emsdk = os.environ.get("EMSDK")
    candidates = [
        shutil.which("em++"),
        str(Path(emsdk, "upstream/emscripten/em++")) if emsdk else None,
        str(_downloaded_emsdk() / "upstream/emscripten/em++"),
    ]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Emscripten(candidate, _version(candidate))
    return _download_emsdk()


def _version(compiler: str) -> str:
    result = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    found = re.search(r"\d+\.\d+\.\d+", result.stdout)
    if result.returncode or not found:
        raise ToolchainError(
            f"{compiler} --version failed: {result.stderr.strip() or 'no version printed'}. "
            "Reinstall emscripten, for example `apt-get install --reinstall emscripten`."
        )
    return found.group()


def _downloaded_emsdk() -> Path:
    return cache_folder() / f"emsdk-{EMSDK_VERSION}"


def _download_emsdk() -> Emscripten:
    folder = _downloaded_emsdk()
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fetch = f"curl -fsSL --connect-timeout {DOWNLOAD_TIMEOUT_S} {EMSDK_URL} | tar xz --strip-components=1"
    install = f"./emsdk install {EMSDK_VERSION} && ./emsdk activate {EMSDK_VERSION}"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{fetch} && {install}"],
        cwd=partial,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise ToolchainError(
            "emcc was not found on PATH or in $EMSDK, and emsdk could not be downloaded "
            f"({result.stderr.strip().splitlines()[-1:] or ['no message']}). "
            "Install it: `apt-get install emscripten`, or follow https://emscripten.org/docs/."
        )
    partial.rename(folder)
    compiler = str(folder / "upstream/emscripten/em++")
    return Emscripten(compiler, _version(compiler))
