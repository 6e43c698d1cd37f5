"""Products of single rows with what surrounds them, against NumPy in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.products import Product, named
from tests.gpu.programs import compiled_for_any
from webbuild.kernels.gpu.matvec import MatVec, program
from webbuild.quantization.formats import Q4, Q4M, Q8

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
# Of a sum in float32, relative to its terms.
SUM = 1e-6


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.usefixtures("device")
def test_product_is_that_of_numpy(case: MatVec, tmp_path: Path):
    product = Product(case, 8)
    expected, bounds = product.of_numpy(SUM)
    alone = product.computed(program(case), compiled_for_any, tmp_path / "alone")(1)
    together = program(replace(case, batched=True))
    batched = product.computed(together, compiled_for_any, tmp_path / "batched")
    np.testing.assert_array_equal(alone, batched(1))
    for n in (3, 8):
        found = batched(n)
        assert (np.abs(found - expected[:n]) <= bounds[:n]).all()
        np.testing.assert_array_equal(alone, found[:1])
