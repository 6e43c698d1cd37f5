"""Attention on a GPU for heads of many shapes, by whichever kernels a library takes for them."""

from pathlib import Path

import pytest
from tvm.target import Target

from tests.compiler.attention_cases import Cases, Heads
from tests.gpu.models import target_name
from tests.gpu.programs import compiled
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.targets import profiles_for

CASES = [
    *(Heads(4, 2, 32), Heads(7, 1, 46, "float16"), Heads(1, 1, 32, "float16")),
    *(Heads(18, 6, 64), Heads(14, 2, 80, "float16"), Heads(9, 9, 120), Heads(5, 1, 256, "float16")),
    *(Heads(28, 4, 60), Heads(7, 7, 192, "float16"), Heads(14, 2, 100)),
    # Smaller tiles than a workgroup has threads for: its memory is full.
    *(Heads(6, 6, 128), Heads(6, 2, 128, "float16"), Heads(3, 3, 96)),
    # What TVM's kernels have no tile or no memory for, or would compute wrong.
    *(Heads(3, 1, 512, "float16"), Heads(3, 1, 256), Heads(7, 1, 160)),
]


@pytest.mark.parametrize("barriers", [True, False], ids=["hardware", "software"])
@pytest.mark.parametrize("heads", CASES, ids=str)
@pytest.mark.usefixtures("device")
def test_attention_is_that_of_numpy(heads: Heads, *, barriers: bool, tmp_path: Path):
    shape = heads.cache_shape
    kind = "f16" if heads.dtype == "float16" else "f32"
    (profile,) = profiles_for(target_name(kind), "q4f16_1")
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        programs = GpuKernels(heads.dtype, barriers=barriers).attention(shape)._asdict()
        call = compiled(programs, target, tmp_path / "attention.so")
    cases = Cases(heads)
    cases.ragged(call("ragged"), causal=True)
    cases.ragged(call("ragged"), causal=False)
    cases.paged(call("paged"))
    cases.decode(call("decode"))
    cases.merge(call("merge"))
