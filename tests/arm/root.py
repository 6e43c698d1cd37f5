"""An arm64 Debian with Python and this project's dependencies, in a folder, without root's rights.

Packages and wheels are downloaded as they are installed on a device; qemu runs its programs one by one.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webbuild.cache import cache_folder

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2]
PACKAGES = ("python3", "libstdc++6", "mesa-vulkan-drivers")
EXTRAS = ("edge", "vulkan", "web")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
QEMU = "qemu-aarch64-static"


@dataclass(frozen=True)
class ArmRoot:
    """`folder` holds root/ (Debian) and site/ (wheels)."""

    folder: Path

    def python(self, cpu: str) -> list[str]:
        """The command that runs Python on an emulated `cpu`."""
        root = self.folder / "root"
        return [QEMU, "-cpu", cpu, "-L", str(root), str(root / "usr/bin/python3")]

    def environment(self) -> dict[str, str]:
        return {
            "PYTHONHOME": str(self.folder / "root/usr"),
            "PYTHONPATH": os.pathsep.join((str(PROJECT), str(self.folder / "site"))),
            "PYTHONDONTWRITEBYTECODE": "1",
            # qemu finds it below the root; those of GPUs are there, too.
            "VK_DRIVER_FILES": "/usr/share/vulkan/icd.d/lvp_icd.aarch64.json",
        }


def arm_root() -> ArmRoot:
    """The root in the build's cache, made now if it isn't there."""
    requirements = _requirements()
    key = hashlib.sha256("\n".join((*PACKAGES, *requirements)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"arm64-{key}"
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _unpack_packages(partial)
        _install_wheels(partial, requirements)
        partial.rename(folder)
    return ArmRoot(folder)


def _requirements() -> list[str]:
    """What the project needs at run time; its own extras named by others are left out."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [entry for name in EXTRAS for entry in project["optional-dependencies"][name]]
    everything = [*project["dependencies"], *extras]
    return [entry for entry in everything if not entry.startswith("mlc-edge")]


def _unpack_packages(folder: Path) -> None:
    """Download packages with a package manager's state of our own: the machine's stays as it is."""
    state = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"])
    wanted = ("--yes", "--no-install-recommends", "--download-only", "install", *PACKAGES)
    _run([*apt, *wanted])
    for package in sorted((state / "cache/archives").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")])
    shutil.rmtree(state)


def _install_wheels(folder: Path, requirements: Sequence[str]) -> None:
    target = (folder / "root/usr/bin/python3").resolve().name
    version = re.fullmatch(r"python(3\.\d+)", target)
    assert version, f"python3 of the arm64 packages is {target}"
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    interpreter = ("--implementation", "cp", "--python-version", version[1])
    pip = ("python3", "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    _run([*pip, *platforms, *interpreter, "--target", str(folder / "site"), *requirements])


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
