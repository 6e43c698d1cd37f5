"""Compiles the plugin into the package for every machine that a wheel is for: `make vulkan-plugins`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mlc_edge.errors import MlcEdgeError, ToolchainError
from mlc_edge.vulkan.build import (
    GLIBC,
    SHIPPED,
    compile_plugin,
    named_plugin,
    plugin_digest,
    whole_plugins,
)

# Debian has each of them for either machine.
COMPILERS = {"x86_64": "x86_64-linux-gnu-g++", "aarch64": "aarch64-linux-gnu-g++"}
# Beside GLIBC in Ubuntu 22.04.
NEWEST = {"GLIBC": GLIBC, "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)}


def ship(folder: Path = SHIPPED) -> list[Path]:
    """Compile what `folder` lacks, and remove what doesn't fit any more.

    Raises ToolchainError if a compiler is missing, fails, or is one for newer systems than those that
    plugins are shipped for.
    """
    shipped = [_shipped(folder, machine) for machine in COMPILERS]
    for path in folder.glob("*.so"):
        if path not in shipped:
            path.unlink()
    return shipped


def _shipped(folder: Path, machine: str) -> Path:
    if found := next(whole_plugins(folder, machine), None):
        return found
    compiler = COMPILERS[machine]
    if shutil.which(compiler) is None:
        raise ToolchainError(f"there is no {compiler}: `make vulkan-plugins` installs it.")
    unnamed = folder / f"new-{machine}.so"
    compile_plugin(unnamed, compiler)
    if newer := sorted(_newer(unnamed)):
        unnamed.unlink()
        raise ToolchainError(
            f"{compiler} compiles for newer systems than Ubuntu 22.04, with {', '.join(newer)}: "
            "use Debian 12's, or an older one."
        )
    return unnamed.replace(named_plugin(folder, machine, plugin_digest(unnamed)))


def _newer(library: Path) -> Iterator[str]:
    """Versions of symbols that NEWEST doesn't have."""
    command = ("readelf", "--version-info", "--wide", str(library))
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for needed in set(re.findall(r"Name: (\w+_[\d.]+)", listed)):
        name, _, version = needed.rpartition("_")
        if name in NEWEST and tuple(map(int, version.split("."))) > NEWEST[name]:
            yield needed


def main() -> None:
    """Print where the plugins are."""
    try:
        sys.stdout.writelines(f"{path}\n" for path in ship())
    except MlcEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
