"""PTX of the kernels of a step and of prompts, computed by the stand-in, against NumPy."""

from pathlib import Path

import numpy as np
import pytest

from tests.build.mlc_reader import dequantize
from tests.compiler.attention_cases import Cases, Heads
from tests.cuda.programs import TARGET, compiled
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.gpu.matvec import MatVec, program
from webbuild.quantization.formats import GROUP, Q4, Q4M

pytestmark = pytest.mark.usefixtures("device")

ATTENTION = [Heads(4, 2, 32), Heads(6, 2, 64, "float16"), Heads(14, 2, 80, "float16")]
# Of the values' own type, and of a sum in float32 relative to its terms.
ROUNDING, SUM = {"float32": 1e-6, "float16": 1e-3}, 1e-6


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


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "gated"), [("float32", False), ("float16", False), ("float16", True)]
)
def test_a_product_is_that_of_numpy(dtype: str, inputs: int, *, gated: bool, tmp_path: Path):
    format = Q4M if gated else Q4
    case = MatVec(
        rows=74,
        columns=736,
        format=format,
        dtype=dtype,
        out_dtype=dtype,
        epsilon=1e-5,
        gated=gated,
        residual=not gated,
        batched=inputs > 1,
    )
    random, groups = np.random.default_rng(5), case.columns // GROUP

    def floats(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(dtype)

    x, norm, residual = floats(inputs, 736), floats(736), floats(inputs, case.outputs)
    words = random.integers(0, 1 << 32, (74, groups * format.bits), np.uint32)
    scales = (floats(74, groups) / 16).astype(dtype)
    minimums = floats(74, groups) if format.has_minimums else None
    found = np.zeros((inputs, case.outputs), dtype)
    with TARGET:
        call = compiled({"matvec": program(case)}, tmp_path / "matvec.so")
    optional = [*([] if minimums is None else [minimums]), norm, *([] if gated else [residual])]
    call("matvec")(x, words, scales, *optional, found)

    weight = dequantize(words, scales, 736, minimums).astype(np.float64)
    given = x.astype(np.float64)
    given = given / np.sqrt((given**2).mean(1, keepdims=True) + 1e-5) * norm
    expected, slack = given @ weight.T, SUM * (np.abs(given) @ np.abs(weight).T)
    if gated:
        gate, up = np.split(expected, 2, axis=1)
        gates, ups = np.split(slack, 2, axis=1)
        silu = gate / (1 + np.exp(-gate))
        expected, slack = silu * up, 1.1 * gates * np.abs(up) + np.abs(silu) * ups
    else:
        expected = expected + residual
    assert (np.abs(found - expected) <= slack + ROUNDING[dtype] * (1 + np.abs(expected))).all()
