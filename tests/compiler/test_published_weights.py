"""Weights that TVM wrote, as MLC publishes them, compute what the checkpoint's own build computes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.contrib import tvmjs

from mlc_edge.errors import BundleError
from mlc_edge.parameters import ParameterSet
from tests.build.conftest import run_build
from tests.build.published import bundle_tensors, dump, publish
from tests.compiler.conftest import CHUNK, Compiled
from tests.compiler.one_sequence import OneSequence

TOKENS = [5, 17, 23, 99, 41, 640, 77, 8, 9]
CPU = tvm.cpu()


@pytest.mark.parametrize("quant", ["q4f16_1", "q4f32_1", "q0f16"])
def test_published_weights_give_the_logits_of_the_checkpoint(
    compile_native: Callable[..., Compiled], tmp_path: Path, quant: str
):
    own = compile_native(quant, options=("--mlc-compatible",))
    tensors = bundle_tensors(own.bundle, own.checkpoint, quant)
    published = publish(tmp_path / "published", own.checkpoint, quant, tensors)
    options = ("--target", "native", "--prefill-chunk-size", CHUNK)
    result = run_build(published, *options, "-o", tmp_path / "bundle")
    assert result.returncode == 0, result.stderr
    expected = own.runner.prefill(TOKENS)
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(OneSequence(tmp_path / "bundle").prefill(TOKENS), expected)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Tensors of every type; the odd sizes leave the later ones at odd places of the file."""
    random = np.random.default_rng(3)
    tensors = {
        "odd": random.standard_normal((3, 5)).astype(np.float16),
        "words": random.integers(0, 1 << 32, (7, 4), np.uint32),
        "scales": random.standard_normal((7, 3)).astype(np.float16),
        "norm": random.standard_normal(9).astype(np.float32),
        "bytes": random.integers(0, 256, (5,), np.uint8),
    }
    dump(tmp_path, tensors)
    return tmp_path


def parameters(folder: Path) -> ParameterSet:
    return ParameterSet(folder, "tensor-cache.json")


def wanted_of(folder: Path) -> list[dict[str, object]]:
    index = json.loads((folder / "tensor-cache.json").read_text())
    return [record for shard in index["records"] for record in shard["records"]]


def test_every_type_is_read_as_tvm_reads_it(mixed: Path):
    expected, _ = tvmjs.load_tensor_cache(str(mixed), CPU)
    wanted = wanted_of(mixed)
    assert {record["format"] for record in wanted} == {"f32-to-bf16"}
    found = parameters(mixed).tensors(wanted, CPU)
    for record, tensor in zip(wanted, found, strict=True):
        assert tensor.dtype == record["dtype"]
        np.testing.assert_array_equal(tensor.numpy(), expected[record["name"]].numpy())


def test_tensors_lie_where_compiled_code_expects_them(mixed: Path):
    found = parameters(mixed).tensors(wanted_of(mixed), CPU)
    assert all(np.from_dlpack(tensor).ctypes.data % 64 == 0 for tensor in found)


def test_a_narrow_type_is_widened_for_a_library_that_wants_it(mixed: Path):
    scales = {**wanted_of(mixed)[2], "dtype": "float32"}
    (found,) = parameters(mixed).tensors([scales], CPU)
    expected, _ = tvmjs.load_tensor_cache(str(mixed), CPU)
    np.testing.assert_array_equal(found.numpy(), expected["scales"].numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("name", "changes", "part"),
    [
        ("words", {"shape": [4, 7]}, "parameter words has shape"),
        ("other", {}, "lacks other"),
    ],
)
def test_what_the_library_does_not_find_is_named(mixed: Path, name: str, changes: dict, part: str):
    wanted = {**wanted_of(mixed)[1], "name": name, **changes}
    with pytest.raises(BundleError, match=part):
        parameters(mixed).require([wanted])


@pytest.mark.parametrize("kept", [0, 10])
def test_a_cut_file_is_named(mixed: Path, kept: int):
    shard = mixed / "params_shard_0.bin"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(BundleError, match=r"params_shard_0\.bin"):
        parameters(mixed).tensors(wanted_of(mixed), CPU)
