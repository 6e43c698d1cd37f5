"""PTX of the kernels of a step and of prompts, computed by the stand-in, against NumPy."""

from pathlib import Path

import numpy as np
import pytest

from tests.compiler.attention_cases import Cases, Heads
from tests.cuda.programs import TARGET, compiled
from tests.gpu.products import Product
from webbuild.kernels.gpu import matmul
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.gpu.matmul import FEW, TILE
from webbuild.kernels.gpu.matvec import MatVec, program
from webbuild.quantization.formats import Q4, Q4M, Q8

pytestmark = pytest.mark.usefixtures("device")

ATTENTION = [Heads(4, 2, 32), Heads(6, 2, 64, "float16"), Heads(14, 2, 80, "float16")]


@pytest.mark.parametrize("heads", ATTENTION, ids=str)
def test_attention_is_that_of_numpy(heads: Heads, tmp_path: Path):
    with TARGET:
        programs = GpuKernels(heads.dtype, barriers=True).attention(heads.cache_shape)._asdict()
        call = compiled(programs, tmp_path / "attention.so")
    cases = Cases(heads)
    cases.ragged(call("ragged"), causal=True)
    cases.paged(call("paged"))
    cases.decode(call("decode"))
    cases.merge(call("merge"))


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "batched"])
@pytest.mark.parametrize(
    ("dtype", "gated"), [("float32", False), ("float16", False), ("float16", True)]
)
def test_a_product_is_that_of_numpy(dtype: str, *, gated: bool, batched: bool, tmp_path: Path):
    case = MatVec(
        rows=74,
        columns=736,
        format=Q4M if gated else Q4,
        dtype=dtype,
        out_dtype=dtype,
        epsilon=1e-5,
        gated=gated,
        residual=not gated,
        batched=batched,
    )
    product = Product(case, 3 if batched else 1)
    expected, bounds = product.of_numpy(1e-6)
    found = product.computed(program(case), compiled, tmp_path)(product.n)
    assert (np.abs(found - expected) <= bounds).all()


@pytest.mark.parametrize(
    ("dtype", "gated", "term"),
    [("float32", False, 1e-6), ("float16", False, 6e-4), ("float16", True, 6e-4)],
)
def test_a_prompts_product_is_that_of_numpy(
    dtype: str, term: float, *, gated: bool, tmp_path: Path
):
    case = MatVec(
        rows=2 * (TILE // 2 + 3),
        columns=96,
        format=Q8 if gated else Q4M,
        dtype=dtype,
        out_dtype=dtype,
        gated=gated,
        residual=not gated,
    )
    product = Product(case, TILE + 3)
    expected, bounds = product.of_numpy(term)
    found = product.computed(matmul.program(case), compiled, tmp_path)
    for n in (FEW, FEW + 1, TILE + 3):
        assert (np.abs(found(n) - expected[:n]) <= bounds[:n]).all()
