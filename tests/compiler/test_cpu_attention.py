"""A CPU's attention for heads of many shapes: by vectors where they fill them, by TVM's loops elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import Target

from tests.compiler.attention_cases import Cases, Heads
from tests.compiler.test_cpu_kernels import RUNNABLE
from webbuild.kernels.cpu.kernels import CpuKernels
from webbuild.targets import TargetProfile

VECTORS = [Heads(4, 2, 32), Heads(2, 2, 64), Heads(8, 1, 32), Heads(7, 1, 160), Heads(1, 1, 256)]
OTHERS = [
    *(Heads(2, 1, 2), Heads(14, 2, 20), Heads(7, 1, 46), Heads(12, 3, 60), Heads(1, 1, 72)),
    *(Heads(4, 4, 80), Heads(14, 2, 100), Heads(12, 3, 120), Heads(2, 1, 300)),
]
CASES = [
    *((profile, heads) for profile in RUNNABLE for heads in VECTORS),
    *((RUNNABLE[-1], heads) for heads in OTHERS),
]


def name_of(value: TargetProfile | Heads) -> str:
    return value.name if isinstance(value, TargetProfile) else str(value)


@pytest.mark.parametrize(("profile", "heads"), CASES, ids=name_of)
def test_attention_is_that_of_numpy(profile: TargetProfile, heads: Heads):
    target = Target(profile.tvm_target)
    shape = heads.cache_shape
    with target:
        kernels = CpuKernels("float32", profile.dot_product)
        programs = kernels.attention(shape)._asdict()
        call = _compiled({**programs, "rotary": kernels.rotary(shape)}, target)
    cases = Cases(heads)
    cases.ragged(call["ragged"], causal=True)
    cases.ragged(call["ragged"], causal=False)
    cases.paged(call["paged"])
    cases.decode(call["decode"])
    cases.merge(call["merge"])
    cases.rotary(call["rotary"], shape.rope_theta)


def _compiled(programs: dict[str, tirx.PrimFunc], target: Target) -> dict[str, Callable[..., None]]:
    named = {name: program.with_attr("global_symbol", name) for name, program in programs.items()}
    library = tvm.compile(tvm.IRModule(named), target=target)

    def function(name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            tensors = [tvm.runtime.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
            library[name](*tensors)
            for array, tensor in zip(arguments, tensors, strict=True):
                if isinstance(array, np.ndarray):
                    array[...] = tensor.numpy()

        return call

    return {name: function(name) for name in programs}
