"""The program that links a CPU's shared library."""

import platform
import shutil

from mlc_edge.cpu import ARCHITECTURES
from mlc_edge.errors import ToolchainError
from webbuild.targets import TargetProfile


def find_linker(profile: TargetProfile) -> str:
    """Name of the C++ compiler that links for `profile`; raises ToolchainError if there is none."""
    arch = profile.features[0]
    own = ARCHITECTURES.get(platform.machine().lower()) == arch
    for name in (profile.compiler, *(("g++", "clang++") if own else ())):
        if shutil.which(name):
            return name
    package = "g++" if own else f"g++-{arch.replace('_', '-')}-linux-gnu"
    raise ToolchainError(
        f"target {profile.name} needs {profile.compiler} to link its library: "
        f"install it, e.g. `apt install {package}`."
    )
