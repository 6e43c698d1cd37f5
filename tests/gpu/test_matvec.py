"""Products of single rows with what surrounds them, against NumPy in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tvm.target import Target

from tests.build.mlc_reader import dequantize
from tests.gpu.models import target_name
from tests.gpu.programs import compiled
from webbuild.kernels.gpu.matvec import MatVec, program
from webbuild.quantization.formats import GROUP, Q4, Q4M, Q8
from webbuild.targets import profiles_for

PLAIN = MatVec(rows=64, columns=256, format=Q4, dtype="float32", out_dtype="float32")
HALF = replace(PLAIN, dtype="float16", out_dtype="float16")
NORMED = replace(PLAIN, epsilon=1e-5)
CASES = [
    PLAIN,
    # Fewer words than lanes, and outputs that are no multiple of a team's.
    *(replace(PLAIN, rows=1, columns=32), replace(PLAIN, rows=7, columns=64, format=Q8)),
    *(replace(PLAIN, rows=33, columns=96), replace(PLAIN, rows=130, columns=1184, format=Q4M)),
    replace(NORMED, rows=96, columns=5632),
    replace(NORMED, rows=2 * 37, columns=192, gated=True),
    replace(NORMED, rows=2 * 5, columns=160, gated=True, format=Q8),
    replace(PLAIN, rows=70, columns=736, residual=True),
    replace(HALF, rows=70, columns=2048, residual=True, format=Q4M),
    replace(HALF, rows=2 * 129, columns=1152, gated=True, epsilon=1e-6),
    replace(HALF, rows=45, columns=352, epsilon=1e-6, format=Q8),
    replace(HALF, rows=300, columns=576, out_dtype="float32"),
]
# Of the values' own type, and of a sum in float32 relative to its terms.
ROUNDING = {"float32": 1e-6, "float16": 1e-3}
SUM = 1e-6


def named(case: MatVec) -> str:
    parts = {"norm": case.epsilon, "gated": case.gated, "residual": case.residual}
    around = "".join(f"-{name}" for name, there in parts.items() if there)
    return f"{case.rows}x{case.columns}-{case.format.name}-{case.dtype}{around}"


@pytest.mark.parametrize(
    ("n", "batched"), [(1, False), (1, True), (3, True), (8, True)], ids=["alone", "1", "3", "8"]
)
@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.usefixtures("device")
def test_product_is_that_of_numpy(case: MatVec, n: int, *, batched: bool, tmp_path: Path):
    random = np.random.default_rng(5)
    groups = case.columns // GROUP

    def floats(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(case.dtype)

    x, norm = floats(n, case.columns), floats(case.columns)
    words = random.integers(0, 1 << 32, (case.rows, groups * case.format.bits), np.uint32)
    scales = (floats(case.rows, groups) / 16).astype(case.dtype)
    minimums = floats(case.rows, groups) if case.format.has_minimums else None
    residual = floats(n, case.outputs)
    found = np.zeros((n, case.outputs), case.out_dtype)

    (profile,) = profiles_for(target_name("f32"), "q4f16_1")
    with Target(profile.tvm_target, host=profile.tvm_host) as target:
        call = compiled(
            {"matvec": program(replace(case, batched=n > 1))}, target, tmp_path / "matvec.so"
        )
    optional = [
        *([minimums] if minimums is not None else []),
        *([norm] if case.epsilon is not None else []),
        *([residual] if case.residual else []),
    ]
    call("matvec")(x, words, scales, *optional, found)
    if batched:
        alone = np.zeros_like(found[:1])
        first = [given[:1] if given is residual else given for given in optional]
        call("matvec")(x[:1], words, scales, *first, alone)
        np.testing.assert_array_equal(alone, found[:1])

    weight = dequantize(words, scales, case.columns, minimums).astype(np.float64)
    given = x.astype(np.float64)
    if case.epsilon is not None:
        given = given / np.sqrt((given**2).mean(1, keepdims=True) + case.epsilon) * norm
    expected, slack = given @ weight.T, SUM * (np.abs(given) @ np.abs(weight).T)
    if case.gated:
        gate, up = np.split(expected, 2, axis=1)
        silu = gate / (1 + np.exp(-gate))
        gates, ups = np.split(slack, 2, axis=1)
        expected, slack = silu * up, 1.1 * gates * np.abs(up) + np.abs(silu) * ups
    if case.residual:
        expected = expected + residual
    bounds = slack + ROUNDING[case.out_dtype] * (1 + np.abs(expected))
    assert (np.abs(found - expected) <= bounds).all()
