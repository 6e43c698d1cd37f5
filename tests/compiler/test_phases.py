"""What the compiler's phases do to the module."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tvm
from tvm.script import tirx as T

from tests.compiler.conftest import Compiled
from webbuild.passes import order_shape_computations

PHASES = ["export", "legalize", "fuse", "schedule", "narrow", "lower", "plan-memory"]


@pytest.fixture
def dumped(compile_native: Callable[..., Compiled]) -> Path:
    return compile_native("q4f32_1", first=("webgpu-software-f32",)).phases / "webgpu-software-f32"


def phase(folder: Path, name: str) -> str:
    return next(folder.rglob(f"*-{name}.py")).read_text()


def test_every_phase_is_dumped(dumped: Path):
    found = [path.stem.split("-", 1)[1] for path in sorted(dumped.rglob("*.py"))]
    assert found == [*PHASES, "finalize"]


def test_no_dequantised_weight_is_materialised(dumped: Path):
    scheduled = phase(dumped, "schedule")
    assert "dequantize" in phase(dumped, "fuse")
    buffers = re.findall(r"(\w+) = T\.sblock_alloc_buffer\(\((.*?)\)(.*?)\)\n", scheduled)
    assert buffers
    for name, shape, rest in buffers:
        # What is left in global memory are scores of attention, never as large as a weight.
        assert 'scope="local"' in rest or 'scope="shared"' in rest or "pages" in shape, name


def test_residual_adds_join_their_matmuls(dumped: Path):
    assert re.search(r"def fused_q4_linear\w*_add", phase(dumped, "fuse"))


def test_sizes_are_computed_in_one_order(dumped: Path):
    slots = [
        [int(slot) for slot in re.findall(r"H\[T\.int64\((\d+)\)\] = ", function)]
        for function in re.findall(r"def shape_func.*?(?=\n\n|\Z)", phase(dumped, "finalize"), re.S)
    ]
    assert max(map(len, slots)) > 1
    assert all(written == sorted(written) for written in slots)


def test_the_order_of_sizes_does_not_depend_on_the_compilers_tables():
    @T.prim_func(s_tir=True)
    def shape_func(slots: T.Buffer((T.int64(4),), "int64")):
        slots[T.int64(3)] = slots[T.int64(0)] * T.int64(4)
        slots[T.int64(2)] = slots[T.int64(1)] * T.int64(64)

    @T.prim_func(s_tir=True)
    def ordered(slots: T.Buffer((T.int64(4),), "int64")):
        slots[T.int64(2)] = slots[T.int64(1)] * T.int64(64)
        slots[T.int64(3)] = slots[T.int64(0)] * T.int64(4)

    found = order_shape_computations(tvm.IRModule({"shape_func": shape_func}))
    tvm.ir.assert_structural_equal(found["shape_func"].body, ordered.body, map_free_vars=True)


def test_kernels_of_short_reductions_have_no_barrier(dumped: Path):
    scheduled = phase(dumped, "schedule")
    linear = re.findall(r"def (?:fused_)?q4_linear.*?(?=\n    @T\.prim_func|\Z)", scheduled, re.S)
    assert len(linear) >= 5
    for source in linear:
        assert "tvm_storage_sync" not in source
        assert 'scope="shared"' not in source


def test_products_on_a_cpu_keep_their_sums_on_the_stack(compile_native: Callable[..., Compiled]):
    """Scope "local" takes memory from a pool at each use there; so does what is larger than 1 KiB."""
    scheduled = phase(compile_native("q0f32").phases / "native", "schedule")
    linear = re.findall(r"def (?:fused_)?linear\w*\(.*?(?=\n    @T\.prim_func|\Z)", scheduled, re.S)
    assert len(linear) >= 5
    buffers = [re.findall(r"sblock_alloc_buffer\((\(.*?\))(.*)\)\n", source) for source in linear]
    assert all(buffers) and not any("scope=" in rest for found in buffers for _, rest in found)


def test_long_products_on_a_cpu_are_scheduled(compile_native: Callable[..., Compiled]):
    """Without a schedule a prompt takes thirty times as long where more than 1024 inputs are summed."""
    phases = compile_native("q0f32", intermediate_size=1100).phases
    scheduled = phase(phases / "native", "schedule")
    linear = re.findall(r"def (?:fused_)?linear\w*\(.*?(?=\n    @T\.prim_func|\Z)", scheduled, re.S)
    assert any("1100" in source for source in linear)
    assert all("T.parallel(" in source for source in linear)
