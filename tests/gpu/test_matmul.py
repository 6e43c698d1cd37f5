"""Products of prompts, in tiles, with what surrounds them, against NumPy in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.products import Product, named
from tests.gpu.programs import compiled_for_any
from webbuild.kernels.gpu.matmul import FEW, TILE, program
from webbuild.kernels.gpu.matvec import MatVec
from webbuild.quantization.formats import Q4, Q4M, Q8

WHOLE = MatVec(rows=2 * TILE, columns=256, format=Q4, dtype="float32", out_dtype="float32")
HALF = replace(WHOLE, dtype="float16", out_dtype="float16")
CASES = [
    WHOLE,
    replace(WHOLE, rows=1, columns=32),
    replace(WHOLE, rows=TILE + 3, columns=96, format=Q8),
    replace(WHOLE, rows=130, columns=736, format=Q4M, residual=True),
    replace(WHOLE, rows=2 * 37, columns=192, gated=True),
    replace(HALF, rows=2 * (TILE + 5), columns=1152, gated=True, format=Q8),
    replace(HALF, rows=70, columns=2048, residual=True, format=Q4M),
    replace(HALF, rows=300, columns=576, out_dtype="float32"),
]
# Of a sum relative to its terms: in float32, of weights as they are kept in workgroup memory.
SUM = {"float32": 1e-6, "float16": 6e-4}


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.usefixtures("device")
def test_product_is_that_of_numpy(case: MatVec, tmp_path: Path):
    product = Product(case, 2 * TILE + 1)
    expected, bounds = product.of_numpy(SUM[case.dtype])
    multiply = product.computed(program(case), compiled_for_any, tmp_path)
    for n in (1, FEW, FEW + 1, TILE, 2 * TILE + 1):
        assert (np.abs(multiply(n) - expected[:n]) <= bounds[:n]).all(), n


@pytest.mark.usefixtures("device")
def test_a_prompt_gets_the_same_whatever_follows_it(tmp_path: Path):
    product = Product(replace(WHOLE, residual=True), TILE + 20)
    multiply = product.computed(program(product.case), compiled_for_any, tmp_path)
    np.testing.assert_array_equal(multiply(TILE), multiply(TILE + 20)[:TILE])
