"""Finds emscripten: on PATH, in $EMSDK, or emsdk at a pinned version, downloaded once."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.errors import ToolchainError
from webbuild.cache import cache_folder

EMSDK_VERSION = "3.1.74"
EMSDK_URL = f"https://github.com/emscripten-core/emsdk/archive/refs/tags/{EMSDK_VERSION}.tar.gz"
CONNECT_TIMEOUT_S = 15
ERROR_LINES = 20
# Debian's emscripten needs acorn, and looks for it in neither of the places where it may be.
NODE_MODULES = (Path("/usr/share/nodejs"), Path(__file__).parents[2] / "node_modules")


@dataclass(frozen=True)
class Emscripten:
    """A working `em++` and its version."""

    compiler: str
    version: str

    def run(self, arguments: Sequence[str], *, cwd: Path | None = None) -> None:
        """Run em++; raises ToolchainError with the last lines of its output if it fails."""
        _run([self.compiler, *arguments], cwd=cwd)

    def run_wasm_opt(self, arguments: Sequence[str]) -> None:
        """Run the wasm-opt that this emscripten uses; raises ToolchainError if it fails."""
        settings = str(Path(self.compiler).with_name("em-config"))
        root = _run([settings, "BINARYEN_ROOT"]).strip()
        _run([str(Path(root, "bin", "wasm-opt")), *arguments])


def _run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    modules = [*map(str, NODE_MODULES), os.environ.get("NODE_PATH", "")]
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, modules))}
    tool = Path(command[0]).name
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    except OSError as error:
        raise ToolchainError(
            f"{command[0]} can't be run: {error}. Reinstall emscripten, for example "
            "`apt-get install --reinstall emscripten`."
        ) from error
    if result.returncode:
        tail = "\n".join((result.stderr or result.stdout).strip().splitlines()[-ERROR_LINES:])
        raise ToolchainError(f"{tool} failed ({result.returncode}):\n{tail}")
    return result.stdout


def find_emscripten() -> Emscripten:
    """The emscripten to use; raises ToolchainError that says how to install one."""
    emsdk = os.environ.get("EMSDK")
    candidates = [
        shutil.which("em++"),
        str(Path(emsdk, "upstream/emscripten/em++")) if emsdk else None,
        str(_compiler_in(_downloaded_emsdk())),
    ]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Emscripten(candidate, _version(candidate))
    return _download_emsdk()


def _version(compiler: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+", _run([compiler, "--version"]))
    if not found:
        raise ToolchainError(
            f"{compiler} --version prints no version: reinstall emscripten, for example "
            "`apt-get install --reinstall emscripten`."
        )
    return found.group()


def _downloaded_emsdk() -> Path:
    return cache_folder() / f"emsdk-{EMSDK_VERSION}"


def _compiler_in(emsdk: Path) -> Path:
    return emsdk / "upstream" / "emscripten" / "em++"


def _download_emsdk() -> Emscripten:
    folder = _downloaded_emsdk()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    script = (
        f"curl -fsSL --connect-timeout {CONNECT_TIMEOUT_S} {EMSDK_URL}"
        f" > emsdk.tar.gz && tar xzf emsdk.tar.gz --strip-components=1"
        f" && ./emsdk install {EMSDK_VERSION} && ./emsdk activate {EMSDK_VERSION}"
    )
    try:
        _run(["bash", "-o", "pipefail", "-c", script], cwd=partial)
    except ToolchainError as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = str(error).splitlines()[-1]
        raise ToolchainError(
            f"emcc was not found on PATH or in $EMSDK, and emsdk {EMSDK_VERSION} could not be "
            f"downloaded ({reason}). Install it: `apt-get install emscripten` on Debian and "
            "Ubuntu, else see https://emscripten.org/docs/getting_started/downloads.html."
        ) from error
    partial.rename(folder)
    compiler = str(_compiler_in(folder))
    return Emscripten(compiler, _version(compiler))


if __name__ == "__main__":
    print(find_emscripten().compiler)
