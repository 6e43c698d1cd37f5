"""The plugin: the one that the package brings, and the one that is compiled where that doesn't fit."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.errors import ConfigError
from mlc_edge.files import hash_file
from mlc_edge.vulkan import build
from mlc_edge.vulkan.build import FOR_OLDER_PYTHON, SHIPPED, plugin_library
from tests.conftest import POCKET
from tests.gpu.processes import python
from tests.packages import ROOT, copy_packages

DOCTOR = (
    "import sys; sys.argv = ['mlc-edge', 'doctor', '--json']; from mlc_edge.cli import main; main()"
)
PLUGIN = "from mlc_edge.vulkan.build import main; main()"
# Ubuntu 22.04, on which JetPack 6 is; Debian 12 and Raspberry Pi OS 12 are newer.
OLDEST = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13), "GCC": (12, 0, 0)}


@pytest.fixture(scope="module")
def shipping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's packages with plugins."""
    return copy_packages(tmp_path_factory.mktemp("shipping") / "packages", shipped=True)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's packages without."""
    return copy_packages(tmp_path_factory.mktemp("bare") / "packages", shipped=False)


@pytest.fixture
def compiled(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin in the cache of somebody whose package has none."""
    return Path(run_main(bare, {}))


def run_main(packages: Path, extra: dict[str, str]) -> str:
    done = python(PLUGIN, packages=packages, **extra)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def doctor(packages: Path, cache: Path, **extra: str) -> dict[str, Any]:
    done = python(DOCTOR, packages=packages, MLC_EDGE_CACHE=str(cache), **extra)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_package_brings_it(shipping: Path, tmp_path: Path):
    empty = tmp_path / "bin"
    empty.mkdir()
    report = doctor(shipping, tmp_path / "cache", PATH=str(empty))
    assert report["plugin"] == "shipped"
    assert report["adapters"][0]["kind"] == "software"
    assert not (tmp_path / "cache/vulkan").exists()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_it_needs_no_newer_system_than_boards_have(shipping: Path, machine: str):
    (plugin,) = (shipping / SHIPPED.relative_to(ROOT)).glob(f"plugin-{machine}-*.so")
    command = [f"{machine}-linux-gnu-objdump", "-T", plugin]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    needed = set(re.findall(r"\((GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)\)", listed))
    assert {"GLIBC", "GLIBCXX"} <= {name for name, _ in needed}
    for name, version in needed:
        assert tuple(map(int, version.split("."))) <= OLDEST[name], version


@pytest.mark.parametrize("is_damaged", [False, True], ids=["other sources", "damaged"])
def test_what_does_not_fit_is_not_taken(shipping: Path, tmp_path: Path, *, is_damaged: bool):
    packages = tmp_path / "packages"
    shutil.copytree(shipping, packages, symlinks=True)
    if is_damaged:
        (plugin,) = (packages / SHIPPED.relative_to(ROOT)).glob(f"plugin-{os.uname().machine}-*.so")
        plugin.write_bytes(plugin.read_bytes()[:30_000])
    else:
        with (packages / "mlc_edge/vulkan/plugin/tvm.cc").open("a") as source:
            source.write("// Another version.\n")
    assert doctor(packages, tmp_path / "cache")["plugin"] is None
    compiled = run_main(packages, {"MLC_EDGE_CACHE": str(tmp_path / "cache")})
    assert Path(compiled).parent == tmp_path / "cache/vulkan"
    assert doctor(packages, tmp_path / "cache")["plugin"] == "compiled"


def test_an_older_system_compiles_its_own(monkeypatch: pytest.MonkeyPatch, shipping: Path):
    monkeypatch.setattr(build, "SHIPPED", shipping / SHIPPED.relative_to(ROOT))
    assert plugin_library().parent == build.SHIPPED
    monkeypatch.setattr("os.confstr", lambda name: "glibc 2.34")
    assert plugin_library().parent != build.SHIPPED


def test_without_it_a_compiler_is_needed(bare: Path, tmp_path: Path):
    empty = tmp_path / "bin"
    empty.mkdir()
    script = "from mlc_edge.cli import main; main()"
    script = f"import sys; sys.argv[1:] = ['run', {str(POCKET)!r}, '--device', 'vulkan']; {script}"
    cache = str(tmp_path / "cache")
    done = python(script, packages=bare, PATH=str(empty), MLC_EDGE_CACHE=cache)
    assert done.returncode == 2
    assert "there is no C++ compiler: install one" in done.stderr


@pytest.mark.parametrize(("length", "mode"), [(30000, 0o755), (-1, 0o775)])
def test_one_that_is_damaged_or_open_to_others_is_compiled_again(
    bare: Path, compiled: Path, tmp_path: Path, length: int, mode: int
):
    damaged = tmp_path / "vulkan" / compiled.name
    damaged.parent.mkdir()
    damaged.write_bytes(compiled.read_bytes()[: length if length > 0 else None])
    damaged.chmod(mode)
    (damaged.parent / ".partial-killed").mkdir()
    assert doctor(bare, tmp_path)["adapters"] is None
    again = Path(run_main(bare, {"MLC_EDGE_CACHE": str(tmp_path)}))
    assert not list(damaged.parent.glob(".partial-*"))
    assert again.stat().st_mode & 0o022 == 0
    assert again.parent == damaged.parent and again.name.endswith(f"-{hash_file(again)[:16]}.so")
    assert doctor(bare, tmp_path)["adapters"][0]["kind"] == "software"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_one_in_a_folder_that_others_may_write_is_refused(
    bare: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
):
    folder = tmp_path / "vulkan"
    folder.mkdir()
    shutil.copy(compiled, folder)
    monkeypatch.setattr(build, "SHIPPED", bare / SHIPPED.relative_to(ROOT))
    monkeypatch.setenv("MLC_EDGE_CACHE", str(tmp_path))
    assert plugin_library() == folder / compiled.name
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=rf"may be written by other users.*chmod go-w {folder}"):
        plugin_library()


def test_the_doctor_reports_whatever_becomes_of_vulkan(bare: Path, compiled: Path, tmp_path: Path):
    fingerprint = compiled.name.rpartition("-")[0]
    (tmp_path / "vulkan").mkdir()
    # Whole, and no library.
    digest = hashlib.sha256(b"no library").hexdigest()[:16]
    (tmp_path / "vulkan" / f"{fingerprint}-{digest}.so").write_bytes(b"no library")
    report = doctor(bare, tmp_path)
    assert report["adapters"] == [] and report["usable"]
    (problem,) = (p for p in report["problems"] if "Vulkan" in p["what"])
    assert digest in problem["what"]


def test_python_310_gets_wgpu_native_by_the_command_that_errors_name(tmp_path: Path):
    """JetPack 6's; the package's metadata asks for a newer Python, but its library is not Python's."""
    _, _, options = FOR_OLDER_PYTHON.partition(" install ")
    assert options.split()[-1] in (ROOT / "pyproject.toml").read_text()
    board = ("--python-version", "3.10", "--platform", "manylinux_2_28_aarch64")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    subprocess.run([*pip, *board, "--target", tmp_path, *options.split()], check=True)
    library = tmp_path / "wgpu/resources/libwgpu_native-release.so"
    header = subprocess.run(["readelf", "-h", library], check=True, capture_output=True, text=True)
    assert "AArch64" in header.stdout
