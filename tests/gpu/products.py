"""Products of rows and a weight with what surrounds them, on the device and in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tvm import tirx

from tests.build.mlc_reader import dequantize
from tests.gpu.programs import Function
from webbuild.kernels.gpu.matvec import MatVec
from webbuild.quantization.formats import GROUP

Compile = Callable[[dict[str, Any], Path], Callable[[str], Function]]
# Of the values' own type.
ROUNDING = {"float32": 1e-6, "float16": 1e-3}


def named(case: MatVec) -> str:
    parts = {"norm": case.epsilon, "gated": case.gated, "residual": case.residual}
    around = "".join(f"-{name}" for name, there in parts.items() if there)
    return f"{case.rows}x{case.columns}-{case.format.name}-{case.dtype}{around}"


@dataclass
class Product:
    """A task with random inputs [n, columns]."""

    case: MatVec
    n: int

    def __post_init__(self) -> None:
        case, random = self.case, np.random.default_rng(5)
        groups = case.columns // GROUP

        def floats(*shape: int) -> np.ndarray:
            return random.normal(size=shape).astype(case.dtype)

        self.x, self.norm = floats(self.n, case.columns), floats(case.columns)
        self.words = random.integers(0, 1 << 32, (case.rows, groups * case.format.bits), np.uint32)
        self.scales = (floats(case.rows, groups) / 2**case.format.bits).astype(case.dtype)
        self.minimums = floats(case.rows, groups) if case.format.has_minimums else None
        self.residual = floats(self.n, case.outputs)

    def computed(
        self, program: tirx.PrimFunc, compiled: Compile, folder: Path
    ) -> Callable[[int], np.ndarray]:
        """What the program makes of so many of the inputs, the first ones."""
        case = self.case
        folder.mkdir(exist_ok=True)
        product = compiled({"product": program}, folder / "product.so")("product")

        def of_first(n: int) -> np.ndarray:
            found = np.zeros_like(self.residual[:n], case.out_dtype)
            optional = [
                *([self.minimums] if self.minimums is not None else []),
                *([self.norm] if case.epsilon is not None else []),
                *([self.residual[:n]] if case.residual else []),
            ]
            product(self.x[:n], self.words, self.scales, *optional, found)
            return found

        return of_first

    def of_numpy(self, term_rounding: float) -> tuple[np.ndarray, np.ndarray]:
        """In float64, and how far from it a result may be: sums by their terms, results by their type."""
        case = self.case
        levels = dequantize(self.words, self.scales, case.columns, self.minimums)
        weight, given = levels.astype(np.float64), self.x.astype(np.float64)
        if case.epsilon is not None:
            mean = (given**2).mean(1, keepdims=True)
            given = given / np.sqrt(mean + case.epsilon) * self.norm
        expected, slack = given @ weight.T, term_rounding * (np.abs(given) @ np.abs(weight).T)
        if case.gated:
            gate, up = np.split(expected, 2, axis=1)
            silu = gate / (1 + np.exp(-gate))
            gates, ups = np.split(slack, 2, axis=1)
            expected, slack = silu * up, 1.1 * gates * np.abs(up) + np.abs(silu) * ups
        if case.residual:
            expected = expected + self.residual
        return expected, slack + ROUNDING[case.out_dtype] * (1 + np.abs(expected))
