"""The programs that libraries are compiled and linked with, and what a target's libraries depend on."""

from webbuild.cuda.compiler import find_compiler
from webbuild.linker import find_linker
from webbuild.targets import TargetProfile
from webbuild.wasm.emscripten import find_emscripten


def require_tools(profile: TargetProfile) -> None:
    """Raise ToolchainError, which says what to install, unless all of them are there."""
    find_linker(profile) if profile.linker == "shared" else find_emscripten()
    if profile.device == "cuda":
        find_compiler(profile.name)


def describe(profile: TargetProfile) -> str:
    """What tells it from others of its name: machines differ, and so do compilers of CUDA."""
    compiler = find_compiler(profile.name).version if profile.device == "cuda" else ""
    adapter = sorted(profile.adapter.items())
    return f"{profile.name} {adapter} {profile.max_binding_bytes} {compiler}"
