"""Bundles for CPUs: their parameter set, what their libraries need, what is refused."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mlc_edge.bundle import read_lock, verify
from tests.build.conftest import ROOT, build_command, run_build
from tests.build.mlc_reader import read_interleaved, read_tensors


@pytest.fixture(scope="module")
def both(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for browsers and a Raspberry Pi 5: with both parameter sets."""
    output = tmp_path_factory.mktemp("both") / "tiny"
    targets = ("--target", "webgpu-f32", "--target", "pi5", "--target", "pi4")
    result = run_build(checkpoint, *targets, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


def test_cpus_alone_get_their_own_set_only(native_bundle: Path):
    lock = verify(native_bundle)
    assert lock.targets["native"].parameters == "cpu/tensor-cache.json"
    paths = {file.path for file in lock.files}
    assert "cpu/params_shard_0.bin" in paths
    assert not paths & {"tensor-cache.json", "params_shard_0.bin"}


def test_both_sets_hold_the_same_values(both: Path):
    standard, interleaved = read_tensors(both), read_interleaved(both)
    assert standard.keys() == interleaved.keys()
    for name, tensor in standard.items():
        found = interleaved[name]
        np.testing.assert_array_equal(found[: len(tensor)], tensor, err_msg=name)
        if name.endswith(("q_scale", "q_minimum")):
            assert not found[len(tensor) :].any()


def test_everything_in_the_set_can_be_mapped(both: Path):
    index = (both / "cpu/tensor-cache.json").read_text()
    offsets = [int(part.split("}")[0]) for part in index.split('"byteOffset":')[1:]]
    assert offsets and not any(offset % 64 for offset in offsets)


def test_the_lock_says_what_a_cpu_must_have(both: Path):
    targets = read_lock(both).targets
    assert targets["pi5"].needs.features[0] == "aarch64"
    assert "asimddp" in targets["pi5"].needs.features
    assert "asimddp" not in targets["pi4"].needs.features


def disassemble(library: Path) -> str:
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_dot_products_are_where_the_cpu_has_them(both: Path):
    assert "sdot" in disassemble(both / "lib/pi5.so")
    older = disassemble(both / "lib/pi4.so")
    assert "sdot" not in older
    assert "smull" in older


def test_unknown_targets_are_refused_with_a_list(checkpoint: Path, tmp_path: Path):
    result = run_build(checkpoint, "--target", "pi9", "-o", tmp_path / "out")
    assert result.returncode == 2
    assert "pi5" in result.stderr and "native" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_linker_is_named(checkpoint: Path, tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(shutil.which("python3") or "")
    result = subprocess.run(
        build_command(checkpoint, "--target", "pi5", "-o", tmp_path / "out"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PATH": str(tools)},
    )
    assert result.returncode == 2
    assert "apt install g++-aarch64-linux-gnu" in result.stderr
    # Before anything is read or compiled.
    assert result.stderr.startswith("error:")
