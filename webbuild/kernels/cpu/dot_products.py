"""Products of weights' levels, unsigned in 4 or 8 bits, and int8 activations, in a CPU's instructions.

A block of weights is 64 bytes: 16 output rows, 4 consecutive inputs each. A CPU takes it in parts of its
register's width, against the same 4 inputs of one activation row in all lanes of 32 bits. Sums over the 32
inputs of a group are exact in the integers used: at most 32 * 255 * 127 in 32 bits, and, where pairs
or single products of 4-bit levels are summed in 16 bits, at most 8 * 2 * 15 * 127 = 30480.

CPUs without products of unsigned bytes take levels of 8 bits less 128, their zero point, so that sums need
no correction; a pair of such products is at most 2 * 128 * 127 = 32512.
"""

from typing import ClassVar

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.program import load
from webbuild.quantization.formats import BLOCK_ROWS

BLOCK_BYTES = 64
SIGN = 128


class DotProduct:
    """`parts` of a block are registers; `tile` activation rows share a weight in registers."""

    parts: ClassVar[int]
    tile: ClassVar[int]

    @property
    def lanes(self) -> int:
        """Output rows in a register."""
        return BLOCK_ROWS // self.parts

    def start(self, correction: tirx.Expr) -> tirx.Expr:
        """Sums of a group before its first product; `correction` int32 belongs to each of them."""
        return T.broadcast(correction, self.lanes)

    def inputs(self, x: tirx.Buffer, row: tirx.Expr, group: tirx.Expr, quad: int) -> tirx.Expr:
        """Inputs 4 quad to 4 quad + 3 of a group, int8 in an int32."""
        return T.reinterpret("int32", load(x, row, group * 32 + quad * 4, lanes=4))

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        """Sums with the products of uint8 `weights` and the 4 int8 in the int32 `inputs` added."""
        raise NotImplementedError

    def finish(self, sums: tirx.Expr, correction: tirx.Expr) -> tirx.Expr:
        """The group's sums, int32 [lanes]."""
        return sums

    def _spread(self, inputs: tirx.Expr) -> tirx.Expr:
        return T.reinterpret(f"int8x{4 * self.lanes}", T.broadcast(inputs, self.lanes))


class Avx512Vnni(DotProduct):
    """vpdpbusd on 512 bits."""

    parts, tile = 1, 8

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        return T.call_llvm_pure_intrin(
            "int32x16", "llvm.x86.avx512.vpdpbusd.512", sums, weights, self._spread(inputs)
        )


class Avx2(DotProduct):
    """vpmaddubsw, summed in 16 bits, then vpmaddwd."""

    parts, tile = 2, 4

    def start(self, correction: tirx.Expr) -> tirx.Expr:
        return T.broadcast(tirx.const(0, "int16"), 2 * self.lanes)

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        pairs = T.call_llvm_pure_intrin(
            "int16x16", "llvm.x86.avx2.pmadd.ub.sw", weights, self._spread(inputs)
        )
        return sums + pairs

    def finish(self, sums: tirx.Expr, correction: tirx.Expr) -> tirx.Expr:
        ones = T.broadcast(tirx.const(1, "int16"), 2 * self.lanes)
        total = T.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", sums, ones)
        return total + T.broadcast(correction, self.lanes)


class ArmDotProduct(DotProduct):
    """sdot of ARMv8.2's dotprod."""

    parts, tile = 4, 8

    def inputs(self, x: tirx.Buffer, row: tirx.Expr, group: tirx.Expr, quad: int) -> tirx.Expr:
        # sdot takes an element of a register: one load serves four of them.
        register = T.reinterpret("int32x4", load(x, row, group * 32 + quad // 4 * 16, lanes=16))
        return tirx.Shuffle([register], [quad % 4])

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        return T.call_llvm_pure_intrin(
            "int32x4",
            "llvm.aarch64.neon.sdot",
            sums,
            T.reinterpret("int8x16", weights),
            self._spread(inputs),
        )


class Neon(DotProduct):
    """smull and smlal to 16 bits, then pairwise sums: ARMv8.0."""

    parts, tile = 4, 4

    def start(self, correction: tirx.Expr) -> tirx.Expr:
        return T.broadcast(tirx.const(0, "int16"), 4 * self.lanes)

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        wide = f"int16x{4 * self.lanes}"
        signed = T.cast(T.reinterpret("int8x16", weights), wide)
        return sums + signed * T.cast(self._spread(inputs), wide)

    def finish(self, sums: tirx.Expr, correction: tirx.Expr) -> tirx.Expr:
        return _sums_of_four(sums) + T.broadcast(correction, self.lanes)


class _SignedBytes(DotProduct):
    """Levels of 8 bits, taken as int8."""

    def start(self, correction: tirx.Expr) -> tirx.Expr:
        return T.broadcast(T.int32(0), self.lanes)

    def _signed(self, weights: tirx.Expr) -> tirx.Expr:
        count = 4 * self.lanes
        return T.bind(T.reinterpret(f"int8x{count}", weights ^ T.broadcast(T.uint8(SIGN), count)))


class Avx2Bytes(_SignedBytes):
    """vpsignb moves the weight's sign to the input, then as with 4 bits."""

    parts, tile = 2, 4

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        signed = self._signed(weights)
        magnitudes = T.call_llvm_pure_intrin(
            "int8x32", "llvm.abs", signed, tirx.const(False, "bool")
        )
        turned = T.call_llvm_pure_intrin(
            "int8x32", "llvm.x86.avx2.psign.b", self._spread(inputs), signed
        )
        pairs = T.call_llvm_pure_intrin("int16x16", "llvm.x86.avx2.pmadd.ub.sw", magnitudes, turned)
        ones = T.broadcast(tirx.const(1, "int16"), 2 * self.lanes)
        return sums + T.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", pairs, ones)


class ArmDotProductBytes(_SignedBytes, ArmDotProduct):
    """sdot of ARMv8.2's dotprod."""

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        return super().add(sums, self._signed(weights), inputs)


class NeonBytes(_SignedBytes):
    """smull to 16 bits, pairwise sums to 32: ARMv8.0."""

    parts, tile = 4, 4

    def add(self, sums: tirx.Expr, weights: tirx.Expr, inputs: tirx.Expr) -> tirx.Expr:
        wide = f"int16x{4 * self.lanes}"
        products = T.bind(T.cast(self._signed(weights), wide) * T.cast(self._spread(inputs), wide))
        return sums + _sums_of_four(products)


def _sums_of_four(values: tirx.Expr) -> tirx.Expr:
    """int16x16 to int32x4."""
    halves = [
        T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", half)
        for half in (T.vectorlow("int16x8", values), T.vectorhigh("int16x8", values))
    ]
    return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.addp", *halves)


_NIBBLES: dict[str, DotProduct] = {
    "avx512vnni": Avx512Vnni(),
    "avx2": Avx2(),
    "dotprod": ArmDotProduct(),
    "neon": Neon(),
}
_BYTES: dict[str, DotProduct] = {
    "avx512vnni": Avx512Vnni(),
    "avx2": Avx2Bytes(),
    "dotprod": ArmDotProductBytes(),
    "neon": NeonBytes(),
}


def find_dot_product(instructions: str, bits: int) -> DotProduct:
    """The products of levels of `bits` by their instructions' name in a target profile."""
    return {4: _NIBBLES, 8: _BYTES}[bits][instructions]
