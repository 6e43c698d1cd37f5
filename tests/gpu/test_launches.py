"""How launches of any size reach the device."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.runtime import device as tvm_device
from tvm.runtime import tensor
from tvm.script import tirx as T
from tvm.target import Target
from tvm_ffi import load_module

from tests.gpu.models import target_name
from webbuild.targets import profiles_for

# A workgroup too many would count there.
BEYOND = 8


@T.prim_func(s_tir=True)
def count(cells_handle: T.handle, width: T.int32):
    T.func_attr({"global_symbol": "count", "tirx.is_scheduled": True, "tirx.noalias": True})
    size = T.int32()
    cells = T.match_buffer(cells_handle, (size,), "int32")
    for bx in T.thread_binding(width, thread="blockIdx.x"):
        for _tx in T.thread_binding(1, thread="threadIdx.x"):
            with T.sblock("count"):
                T.reads()
                T.writes()
                cells[bx] = cells[bx] + 1


@pytest.mark.usefixtures("device")
def test_as_many_workgroups_run_as_are_asked_for(tmp_path: Path):
    (profile,) = profiles_for(target_name("f32"), "q4f16_1")
    target = Target(profile.tvm_target, host=profile.tvm_host)
    compiled = tvm.compile(tvm.IRModule({"count": count}), target=target)
    compiled.export_library(str(tmp_path / "count.so"))
    library, gpu = load_module(tmp_path / "count.so"), tvm_device("webgpu", 0)
    # What a dimension takes, and what is spread over 2 and 4 of another with some left over.
    for width in (1, 65535, 70001, 140001):
        cells = tensor(np.zeros(width + BEYOND, np.int32), gpu)
        library["count"](cells, width)
        assert cells.numpy().tolist() == [1] * width + [0] * BEYOND
