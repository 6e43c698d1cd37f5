"""Quantised weights times 8-bit activations: y = x W^T with W in blocks that suit a CPU's dot products.

Weights are those of webbuild.quantization.formats, in another order: uint8 [ceil(N/16), G, bytes], with
scales and minimums [ceil(N/16), G, 16]. In 4 bits, byte 64 j + 4 r + i holds, for output row r of the
block, input 8 j + i in its lower and input 8 j + 4 + i in its upper half; in 8 bits, input 4 j + i.
Activations are quantised to int8 by groups of 32, symmetrically, as they come; beside weights of 8 bits,
which err less than that, in two terms: q = 254 a + b, where b is what a left. With s = scale of the
activations' group and q their values, a group adds
    weight scale * s * (sum of level * q - zero point * sum of q) + minimum * s * sum of q,
where the terms of sum of q are the same for all output rows: the correction.
"""

from functools import lru_cache

from tvm import te, tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.dot_products import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    DotProduct,
    find_dot_product,
)
from webbuild.kernels.cpu.program import (
    LANES,
    absolute,
    accumulator,
    fma,
    keep,
    largest_of,
    load,
    local_buffer,
    nearest,
    over_rows,
    splat,
    store,
    total_of,
)
from webbuild.kernels.program import argument, build, rows_of, size
from webbuild.quantization.formats import GROUP, TensorFormat

LEVELS = 127
# Half a step of the first term is LEVELS steps of the second.
STEP_RATIO = 2 * LEVELS
# Where all values of a group are zero, any divisor will do.
SMALLEST = 1e-30
QUADS = GROUP // 4
# How far ahead of the products weights are asked for.
PREFETCH_BYTES = 8192
# Activation rows that are taken together against all weights: their int8 values fit a small L2 cache.
CHUNK_ROWS = 128


def blocks_of(rows: int) -> int:
    """Blocks of 16 that hold `rows` output rows."""
    return -(-rows // BLOCK_ROWS)


def groups_of(depth: int) -> int:
    """Groups of 32 that hold `depth` inputs."""
    return -(-depth // GROUP)


def block_bytes(format: TensorFormat) -> int:
    """Bytes of a group of all rows of a block."""
    return BLOCK_ROWS * format.group_bytes


def grouped_linear(
    x: Tensor, weight: list[Tensor], rows: int, format: TensorFormat, dot_product: str
) -> Tensor:
    """x float32 [..., K] to float32 [..., rows].

    `weight` is levels uint8 [B, G, bytes], scales [B, G, 16] and, where the format has them, minimums.
    """
    *lead, depth = x.shape
    count = rows_of(lead)
    flat = op.reshape(x, (count, depth))
    groups = groups_of(int(depth))
    quantized = op.tensor_ir_op(
        quantize_program(int(depth), format),
        "quantize_int8",
        [flat],
        out=[
            Tensor.placeholder((count, groups * GROUP * activation_terms(format)), "int8"),
            Tensor.placeholder((count, groups), "float32"),
            Tensor.placeholder((count, groups), correction_dtype(format)),
        ],
    )
    y = op.tensor_ir_op(
        matmul_program(rows, int(depth), format, weight[1].dtype, dot_product),
        f"{format.name}_matmul",
        [*quantized, *weight],
        out=Tensor.placeholder((count, rows), "float32"),
    )
    return op.reshape(y, (*lead, rows))


def activation_terms(format: TensorFormat) -> int:
    """int8 numbers for an activation."""
    return 2 if format.bits == 8 else 1


def correction_dtype(format: TensorFormat) -> str:
    """Of the third result of `quantize_program`."""
    return "float32" if format.has_minimums else "int32"


def grouped_take(weight: list[Tensor], ids: Tensor, width: int, format: TensorFormat) -> Tensor:
    """Rows `ids` int32 [n] of a table with `width` columns, float32 [n, width]."""

    def level(levels: te.Tensor, row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        block, lane, group, inner = (
            row // BLOCK_ROWS,
            row % BLOCK_ROWS,
            column // GROUP,
            column % GROUP,
        )
        if format.bits == 8:
            return levels[block, group, inner // 4 * BLOCK_BYTES + lane * 4 + inner % 4]
        byte = levels[block, group, inner // 8 * BLOCK_BYTES + lane * 4 + inner % 4]
        shift = tirx.Cast("uint8", inner // 4 % 2 * 4)
        return (byte >> shift) & tirx.const(15, "uint8")

    def value(
        levels: te.Tensor, floats: tuple[te.Tensor, ...], row: tirx.Expr, column: tirx.Expr
    ) -> tirx.Expr:
        place = (row // BLOCK_ROWS, column // GROUP, row % BLOCK_ROWS)
        scale, *minimum = (tirx.Cast("float32", tensor[place]) for tensor in floats)
        centred = tirx.Cast("int32", level(levels, row, column)) - format.zero_point
        product = tirx.Cast("float32", centred) * scale
        return product + minimum[0] if minimum else product

    def compute(ids: te.Tensor, levels: te.Tensor, *floats: te.Tensor) -> te.Tensor:
        return te.compute(
            (ids.shape[0], width),
            lambda i, k: value(levels, floats, ids[i], k),
            name=f"{format.name}_take",
        )

    return op.tensor_expr_op(compute, f"{format.name}_take", [ids, *weight])


@lru_cache
def quantize_program(depth: int, format: TensorFormat) -> tirx.PrimFunc:
    """x float32 [m, depth] to int8 [m, G * terms * 32], scales float32 [m, G], corrections [m, G].

    Scales are those of the last term. Corrections are int32, to be added to sums of products, or, for a
    format with minimums, float32 factors of those.
    """
    groups, terms = groups_of(depth), activation_terms(format)
    whole = depth // GROUP

    def body() -> None:
        m = size("m")
        x = argument("x", (m, depth), "float32")
        values = argument("values", (m, groups * terms * GROUP), "int8")
        scales = argument("scales", (m, groups), "float32")
        corrections = argument("corrections", (m, groups), correction_dtype(format))

        def quantize_group(
            row: tirx.Var, group: tirx.Expr | int, first: tirx.Expr | int, source: tirx.Buffer
        ) -> None:
            index = (row, first) if source is x else (first,)
            halves = [keep(load(source, *index[:-1], index[-1] + h)) for h in (0, LANES)]
            largest = largest_of(T.max(*map(absolute, halves)))
            inverse = keep(T.float32(LEVELS) / T.max(largest, T.float32(SMALLEST)), lanes=1)
            rests = [keep(half * splat(inverse)) for half in halves]
            total: tirx.Expr = T.int32(0)
            for term in range(terms):
                levels = [keep(nearest(rest)) for rest in rests]
                whole_numbers = [keep(T.cast(v, f"int32x{LANES}"), "int32") for v in levels]
                for offset, level in zip((0, LANES), whole_numbers, strict=True):
                    place = (group * terms + term) * GROUP + offset
                    store(values, T.cast(level, f"int8x{LANES}"), row, place)
                term_total = total_of(whole_numbers[0] + whole_numbers[1], "int32")
                total = total * T.int32(STEP_RATIO) + term_total
                rests = [
                    (rest - level) * splat(STEP_RATIO)
                    for rest, level in zip(rests, levels, strict=True)
                ]
            steps = LEVELS * STEP_RATIO ** (terms - 1)
            scale = keep(largest * T.float32(1 / steps), lanes=1)
            T.buffer_store(scales, scale, [row, group])
            correction = (
                T.cast(total, "float32") * scale
                if format.has_minimums
                else total * T.int32(-format.zero_point)
            )
            T.buffer_store(corrections, correction, [row, group])

        def quantize_row(row: tirx.Var) -> None:
            with T.serial(0, whole) as group:
                quantize_group(row, group, group * GROUP, x)
            if whole < groups:
                rest = accumulator(GROUP)
                with T.serial(0, depth - whole * GROUP) as k:
                    T.buffer_store(rest, x[row, whole * GROUP + k], [k])
                quantize_group(row, whole, 0, rest)

        over_rows(m, quantize_row)

    return build("quantize_int8", body)


@lru_cache
def matmul_program(
    rows: int, depth: int, format: TensorFormat, scale_dtype: str, dot_product: str
) -> tirx.PrimFunc:
    """Quantised activations of m rows, levels, scales and minimums, if any, to float32 [m, rows]."""
    dot = find_dot_product(dot_product, format.bits)
    groups, blocks, terms = groups_of(depth), blocks_of(rows), activation_terms(format)

    def body() -> None:
        m = size("m")
        x = argument("values", (m, groups * terms * GROUP), "int8")
        x_scales = argument("x_scales", (m, groups), "float32")
        corrections = argument("corrections", (m, groups), correction_dtype(format))
        weight = argument("weight", (blocks, groups, block_bytes(format)), "uint8")
        names = ("scales", "minimums") if format.has_minimums else ("scales",)
        floats = [argument(name, (blocks, groups, BLOCK_ROWS), scale_dtype) for name in names]
        y = argument("y", (m, rows), "float32")
        operands = _Operands(x, x_scales, corrections, weight, floats, y, rows, terms)
        with T.serial(0, (m + (CHUNK_ROWS - 1)) // CHUNK_ROWS) as chunk:
            first = T.bind(chunk * CHUNK_ROWS)
            count = T.bind(T.min(m - first, T.int64(CHUNK_ROWS)))
            with T.parallel(0, blocks) as block:
                _emit_tiles(dot, operands, block, first, count)

    return build(f"{format.name}_matmul", body)


class _Operands:
    """The buffers of a product, how many of its output rows are real, and terms of an activation."""

    def __init__(
        self,
        x: tirx.Buffer,
        x_scales: tirx.Buffer,
        corrections: tirx.Buffer,
        weight: tirx.Buffer,
        floats: list[tirx.Buffer],
        y: tirx.Buffer,
        rows: int,
        terms: int,
    ) -> None:
        self.terms = terms
        self.x, self.x_scales, self.corrections = x, x_scales, corrections
        self.weight, self.y, self.rows = weight, y, rows
        self.scales, *self.minimums = floats

    def write(self, value: tirx.Expr, row: tirx.Expr, first: tirx.Expr, lanes: int) -> None:
        """Store outputs [row, first:first + lanes], without those that only pad a block."""
        if self.rows % BLOCK_ROWS == 0:
            store(self.y, value, row, first, lanes=lanes)
            return
        kept = local_buffer((lanes,))
        store(kept, value, 0, lanes=lanes)
        with T.serial(0, lanes) as lane, T.If(first + lane < self.rows), T.Then():
            T.buffer_store(self.y, kept[lane], [row, first + lane])


def _emit_tiles(
    dot: DotProduct, operands: _Operands, block: tirx.Var, first: tirx.Expr, count: tirx.Expr
) -> None:
    """All outputs of a block: rows in tiles as long as there are enough, then fewer, then one."""
    done: tirx.Expr = T.int64(0)
    tile = dot.tile
    while tile >= 4:
        tiles = T.bind((count - done) // tile)
        with T.serial(0, dot.parts) as part, T.serial(0, tiles) as index:
            _emit_tile(dot, operands, block, [part], first + done + index * tile, tile)
        done = T.bind(done + tiles * tile)
        tile //= 2
    with T.serial(0, count - done) as index:
        _emit_tile(dot, operands, block, list(range(dot.parts)), first + done + index, 1)


def _emit_tile(
    dot: DotProduct,
    operands: _Operands,
    block: tirx.Var,
    parts: list[tirx.Expr | int],
    row: tirx.Expr,
    rows: int,
) -> None:
    """Outputs of `rows` activation rows from `row` on, in the given parts of a block."""
    lanes = dot.lanes
    totals = {(r, p): accumulator(lanes) for r in range(rows) for p in range(len(parts))}
    with T.serial(0, operands.weight.shape[1]) as group:
        if rows == 1:
            _prefetch(operands.weight, block, group)
        for p, part in enumerate(parts):
            weights = _unpack(dot, operands.weight, block, group, part)
            scale, *minimum = (
                T.bind(_widened(tensor, block, group, part * lanes, lanes))
                for tensor in (operands.scales, *operands.minimums)
            )
            for r in range(rows):
                total = totals[r, p]
                sums = T.cast(
                    _group_sums(dot, operands, weights, row + r, group), f"float32x{lanes}"
                )
                factor = scale * splat(operands.x_scales[row + r, group], lanes)
                value = fma(sums, factor, load(total, 0, lanes=lanes), lanes)
                if minimum:
                    correction = splat(operands.corrections[row + r, group], lanes)
                    value = fma(minimum[0], correction, value, lanes)
                store(total, value, 0, lanes=lanes)
    for (r, p), total in totals.items():
        outputs = block * BLOCK_ROWS + parts[p] * lanes
        operands.write(load(total, 0, lanes=lanes), row + r, outputs, lanes)


def _widened(
    tensor: tirx.Buffer, block: tirx.Var, group: tirx.Var, first: tirx.Expr | int, lanes: int
) -> tirx.Expr:
    return T.cast(load(tensor, block, group, first, lanes=lanes), f"float32x{lanes}")


def _prefetch(weight: tirx.Buffer, block: tirx.Var, group: tirx.Var) -> None:
    """Ask for the weights of a few groups later: a row alone is bound by memory."""
    group_bytes = int(weight.shape[2])
    for line in range(0, group_bytes, BLOCK_BYTES):
        place = T.address_of(weight[block, group + PREFETCH_BYTES // group_bytes, line])
        T.evaluate(
            tirx.call_intrin("void", "tirx.prefetch", place, T.int32(0), T.int32(3), T.int32(1))
        )


def _unpack(
    dot: DotProduct, weight: tirx.Buffer, block: tirx.Var, group: tirx.Var, part: tirx.Expr | int
) -> list[tirx.Expr]:
    """A part's levels of a group, uint8 in 8 registers: inputs 4 i to 4 i + 3 in register i."""
    width = BLOCK_BYTES // dot.parts
    lines = [
        T.bind(load(weight, block, group, first + part * width, lanes=width))
        for first in range(0, int(weight.shape[2]), BLOCK_BYTES)
    ]
    if len(lines) == QUADS:
        return lines
    registers = []
    for packed in lines:
        registers.append(T.bind(packed & T.broadcast(T.uint8(15), width)))
        registers.append(T.bind(packed >> T.broadcast(T.uint8(4), width)))
    return registers


def _group_sums(
    dot: DotProduct,
    operands: _Operands,
    weights: list[tirx.Expr],
    row: tirx.Expr,
    group: tirx.Var,
) -> tirx.Expr:
    correction = T.int32(0) if operands.minimums else T.bind(operands.corrections[row, group])

    def sums_of(term: int, start: tirx.Expr) -> tirx.Expr:
        sums = T.bind(dot.start(start))
        place = group * operands.terms + term
        for quad, register in enumerate(weights):
            sums = T.bind(dot.add(sums, register, dot.inputs(operands.x, row, place, quad)))
        return T.bind(dot.finish(sums, start))

    if operands.terms == 1:
        return sums_of(0, correction)
    return T.bind(
        sums_of(0, T.int32(0)) * splat(T.int32(STEP_RATIO), dot.lanes) + sums_of(1, correction)
    )
