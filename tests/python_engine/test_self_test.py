"""The self-test refuses libraries and weights that would answer nonsense, whatever their hashes say."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlc_edge import MLCEngine
from mlc_edge.bundle import lock_files, read_lock, write_lock
from mlc_edge.errors import BundleError, EngineError
from tests.build.checkpoints import write_checkpoint
from tests.build.conftest import checkpoint, native_bundle, run_build
from tests.conftest import POCKET

__all__ = ["checkpoint", "native_bundle"]
LIBRARY = "lib/native.so"
WEIGHTS = "cpu/params_shard_0.bin"


@pytest.fixture
def copy(pocket_bundle: Path, tmp_path: Path) -> Path:
    """The embedded model's bundle, to be changed."""
    return Path(shutil.copytree(pocket_bundle, tmp_path / pocket_bundle.name))


def sign(bundle: Path) -> None:
    """Make the lock agree with the files."""
    write_lock(bundle, replace(read_lock(bundle), files=lock_files(bundle)))


def refused(bundle: Path) -> str:
    """The message of the one error that loading and checking a bundle gives."""
    sign(bundle)
    with pytest.raises((EngineError, BundleError)) as error, MLCEngine(bundle) as engine:
        engine.check()
    if isinstance(error.value, EngineError):
        assert error.value.code == "internal" and "--target" in str(error.value.remedy)
    return str(error.value)


def place_of(bundle: Path, name: str) -> tuple[int, dict]:
    """Where a parameter lies in WEIGHTS, and its record."""
    index = json.loads((bundle / "cpu/tensor-cache.json").read_text())
    record = next(r for shard in index["records"] for r in shard["records"] if r["name"] == name)
    return record["byteOffset"], record


def test_a_good_bundle_passes_again_and_again(copy: Path):
    with MLCEngine(copy) as engine:
        engine.check()
        engine.completions.create(prompt="a", max_tokens=2)
        engine.check()


def swap_layers(content: bytes) -> bytes:
    """Let two layers' scales change places in the list of a library's parameters."""
    first, second = (b'"name":"model.layers.%d.self_attn.qkv_proj.q_scale"' % n for n in (0, 1))
    return content.replace(first, b"*").replace(second, first).replace(b"*", second)


def test_parameters_in_another_order_are_noticed(copy: Path):
    library = copy / LIBRARY
    content = library.read_bytes()
    place = content.index(b'{"abi_version"')
    end = content.index(b"\0", place)
    metadata = content[place:end]
    assert swap_layers(metadata) != metadata
    library.write_bytes(content[:place] + swap_layers(metadata) + content[end:])
    assert "self_attn.qkv_proj" in refused(copy)


@pytest.mark.parametrize("layer", [0, 2])
def test_a_scale_that_is_no_number_is_noticed(copy: Path, layer: int):
    offset, _ = place_of(copy, f"model.layers.{layer}.self_attn.o_proj.q_scale")
    with (copy / WEIGHTS).open("r+b") as file:
        file.seek(offset)
        file.write(np.array([np.nan], np.float16).tobytes())
    assert "wrong results" in refused(copy)


def test_a_library_of_another_model_is_refused(
    checkpoint: Path, native_bundle: Path, tmp_path: Path
):
    """Its parameters have the same names and shapes."""
    options = ("--target", "native", "--quant", "q4f16_1", "-o")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    other_heads = write_checkpoint(tmp_path / "checkpoint", **heads)
    bundle, narrow = tmp_path / "tiny-q4f16_1", tmp_path / "narrow-q4f16_1"
    for source, output in ((checkpoint, bundle), (other_heads, narrow)):
        assert run_build(source, *options, output).returncode == 0
    for field, other in (("quantization", native_bundle), ("head_dim", narrow)):
        # A process that has loaded a library doesn't look at its path again.
        mixed = Path(shutil.copytree(bundle, tmp_path / field / bundle.name))
        shutil.copyfile(other / LIBRARY, mixed / LIBRARY)
        assert f"compiled for another model: its {field} is" in refused(mixed)


WRONG_ZERO = """
from dataclasses import replace
from webbuild.kernels.cpu import grouped
right = grouped.quantize_program
grouped.quantize_program = lambda depth, format: right(depth, replace(format, zero_point=8))
from mlc_edge.cli import main
main()
"""


def test_a_library_that_computes_something_else_is_noticed(copy: Path, tmp_path: Path):
    """Its metadata are the same, but to its products a 4-bit 0 stands for -8."""
    options = ("--target", "native", "--quant", "q4f16_1", "--prefill-chunk-size", "64", "-o")
    command = ["build", str(POCKET), *options, str(tmp_path / "wrong")]
    done = subprocess.run([sys.executable, "-c", WRONG_ZERO, *command], capture_output=True)
    assert done.returncode == 0, done.stderr
    shutil.copyfile(tmp_path / "wrong" / LIBRARY, copy / LIBRARY)
    assert "self_attn.qkv_proj" in refused(copy)
