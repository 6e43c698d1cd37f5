"""Rows, each alone, times a weight in groups of few bits, with what surrounds that in a decoder layer.

A workgroup is teams of lanes; a team computes a few rows of the weight, neighbouring lanes neighbouring
words of each of them, with a word's inputs in registers for all rows. Of several inputs some share what is
read of the weight. Of the inputs' normalisation only a factor is left in the end, of squares that were summed
beside the products.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.program import argument, build, rows_of, size
from webbuild.quantization.formats import GROUP, TensorFormat

THREADS = 64
# Of a team: each input that is read serves so many.
ROWS = 4
# Inputs of a workgroup, where there are several: each word of the weight that is read serves so many.
INPUTS = 4


@dataclass(frozen=True, kw_only=True)
class MatVec:
    """What a program computes; `epsilon` is None where inputs aren't normalised.

    A `gated` weight has rows for gates, then as many for what they let through. One that is `batched` may be
    given several inputs at little more than the cost of one. `pieces` are the rows of each, where the weight,
    not gated then, is in several.
    """

    rows: int
    columns: int
    format: TensorFormat
    dtype: str
    out_dtype: str
    epsilon: float | None = None
    gated: bool = False
    residual: bool = False
    batched: bool = False
    pieces: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """Elements of the result."""
        return self.rows // 2 if self.gated else self.rows


def suits(columns: int, format: TensorFormat) -> bool:
    """Whether there is a program for weights of that form."""
    return format.bits > 0 and columns % GROUP == 0


def is_step(x: Tensor) -> bool:
    """Whether `x` [..., tokens, columns] is of a single token a sequence."""
    tokens = x.shape[-2]
    return isinstance(tokens, int) and tokens == 1


def matvec(
    x: Tensor,
    weight: Sequence[Tensor],
    task: MatVec,
    *,
    norm_weight: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """x [..., columns] to [..., outputs]; the weight is as in `webbuild.kernels.plain`."""
    *lead, columns = x.shape
    count = rows_of(lead)
    task = replace(task, batched=not (isinstance(count, int) and count == 1))
    inputs = [op.reshape(x, (count, columns)), *weight]
    if norm_weight is not None:
        inputs.append(norm_weight)
    if residual is not None:
        inputs.append(op.reshape(residual, (count, task.outputs)))
    out = Tensor.placeholder((count, task.outputs), task.out_dtype)
    y = op.tensor_ir_op(program(task), "matvec", inputs, out)
    return op.reshape(y, (*lead, task.outputs))


def program(task: MatVec) -> tirx.PrimFunc:
    """x [n, columns], the weight's tensors, the norm's weight, the residual and the result [n, outputs]."""
    return build("matvec", lambda: Rows(task).emit())


@dataclass(frozen=True)
class Piece:
    """The weight's tensors of the `outputs` that begin with `first`."""

    first: int
    outputs: int
    words: tirx.Buffer
    floats: Sequence[tirx.Buffer]

    def row(self, index: tirx.Expr, part: tirx.Expr | int) -> tirx.Expr:
        """Of the weight: an output's, or with part 1 the one that it gates.

        Past the end it is the last one again, whose sum nobody stores.
        """
        return T.min(index, self.outputs - 1) + part * self.outputs


class Rows:
    """Emits the arguments, and kernels."""

    def __init__(self, task: MatVec) -> None:
        """The arguments."""
        self.task = task
        self.per_row = task.columns // task.format.levels_per_word
        """Words of a row of the weight."""
        self.lanes = ROWS
        while self.lanes < min(self.per_row, THREADS):
            self.lanes *= 2
        self.teams = THREADS // self.lanes
        self.n = size("n")
        self.x = argument("x", (self.n, task.columns), task.dtype)
        self.pieces: list[Piece] = []
        for rows in task.pieces or (task.rows,):
            self.pieces.append(self._piece(rows))
        if task.epsilon is not None:
            self.norm_weight = argument("norm_weight", (task.columns,), task.dtype)
        if task.residual:
            self.residual = argument("residual", (self.n, task.outputs), task.dtype)
        self.out = argument("out", (self.n, task.outputs), task.out_dtype)
        self.products = 2 * ROWS if task.gated else ROWS
        """Sums of products that a lane has for an input; after them, if it is normalised, its squares'."""
        self.sums = self.products + (task.epsilon is not None)

    def _piece(self, rows: int) -> Piece:
        """The next one, of so many rows."""
        task, number = self.task, len(self.pieces)
        names = ["scales", "minimums"] if task.format.has_minimums else ["scales"]
        words = argument(f"words_{number}", (rows, self.per_row), "uint32")
        by_group = (rows, task.columns // GROUP)
        floats = [argument(f"{name}_{number}", by_group, task.dtype) for name in names]
        first = sum(piece.outputs for piece in self.pieces)
        return Piece(first, rows // 2 if task.gated else rows, words, floats)

    def emit(self) -> None:
        """The kernels, for what is alone and for several together."""
        if not self.task.batched:
            self._kernels(1)
            return
        with T.If(self.n == 1):
            with T.Then():
                self._kernels(1)
            with T.Else():
                self._kernels(INPUTS)

    def _kernels(self, together: int) -> None:
        """Those whose workgroups have so many inputs, one for each piece."""
        for piece in self.pieces:
            self._kernel(together, piece)

    def _kernel(self, together: int, piece: Piece) -> None:
        blocks = -(-piece.outputs // (self.teams * ROWS))
        turns = (self.n + (together - 1)) // together if together > 1 else 1
        with (
            T.thread_binding(0, turns * blocks, thread="blockIdx.x") as place,
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            # Neighbours read the same of the weight.
            turn, block = T.bind(place % turns), T.bind(place // turns)
            # Past the end it is the last one again, whose results nobody stores.
            inputs = [T.min(turn * together + index, self.n - 1) for index in range(together)]
            lane = T.bind(thread % self.lanes)
            first = T.bind((block * self.teams + thread // self.lanes) * ROWS)
            totals = T.alloc_buffer((together * self.sums,), "float32", scope="local")
            # One for each sum: TVM wants a barrier between accesses of different threads to the same one.
            shared = [
                T.alloc_buffer((THREADS,), "float32", scope="shared")
                for _ in range(together * self.sums)
            ]
            with T.unroll(0, together * self.sums) as index:
                T.buffer_store(totals, T.float32(0), [index])
            with T.serial(0, -(-self.per_row // self.lanes)) as step:
                word = T.bind(step * self.lanes + lane)
                with T.If(word < self.per_row), T.Then():
                    self._add_word(totals, inputs, piece, first, word)
            for index, sums in enumerate(shared):
                T.buffer_store(sums, totals[index], [thread])
            self._reduce(shared, thread, lane)
            results = [sums[thread - lane] for sums in shared]
            for index in range(ROWS):
                is_its_turn = tirx.all(lane == index, first + index < piece.outputs)
                with T.If(is_its_turn), T.Then():
                    for number, row in enumerate(inputs):
                        own = results[number * self.sums : (number + 1) * self.sums]
                        is_there = turn * together + number < self.n
                        with T.If(is_there), T.Then():
                            self._store(own, row, piece.first + first + index, index)

    def _add_word(
        self,
        totals: tirx.Buffer,
        inputs: list[tirx.Expr],
        piece: Piece,
        first: tirx.Expr,
        word: tirx.Expr,
    ) -> None:
        """The products of a word in all of the team's rows of the weight."""
        format = self.task.format
        count = format.levels_per_word
        values = T.alloc_buffer((len(inputs) * (count + 1),), "float32", scope="local")
        for number, row in enumerate(inputs):
            self._read(values, totals, number, row, word)
        levels = T.alloc_buffer((1,), "uint32", scope="local")
        products = T.alloc_buffer((len(inputs),), "float32", scope="local")
        group = T.bind(word // format.words_per_group)
        with T.unroll(0, self.products) as index:
            output = T.bind(piece.row(first + index % ROWS, index // ROWS))
            T.buffer_store(levels, piece.words[output, word], [0])
            for number in range(len(inputs)):
                T.buffer_store(products, T.float32(0), [number])
            with T.unroll(0, count) as k:
                level = T.bind(self.centred(levels[0], k))
                for number in range(len(inputs)):
                    value = values[number * (count + 1) + k] * level
                    T.buffer_store(products, products[number] + value, [number])
            scale, *minimum = (
                T.bind(T.Cast("float32", tensor[output, group])) for tensor in piece.floats
            )
            for number in range(len(inputs)):
                value = products[number] * scale
                if minimum:
                    value = value + values[number * (count + 1) + count] * minimum[0]
                place = number * self.sums + index
                T.buffer_store(totals, totals[place] + value, [place])

    def _read(
        self,
        values: tirx.Buffer,
        totals: tirx.Buffer,
        number: int,
        row: tirx.Expr,
        word: tirx.Expr,
    ) -> None:
        """A word's values of the workgroup's input `number`, then their sum.

        Their squares are added to the totals.
        """
        count = self.task.format.levels_per_word
        first, squares = number * (count + 1), number * self.sums + self.products
        total = first + count
        T.buffer_store(values, T.float32(0), [total])
        with T.unroll(0, count) as k:
            value = T.bind(T.Cast("float32", self.x[row, word * count + k]))
            if self.task.epsilon is not None:
                T.buffer_store(totals, totals[squares] + value * value, [squares])
                value = T.bind(value * T.Cast("float32", self.norm_weight[word * count + k]))
            T.buffer_store(values, value, [first + k])
            T.buffer_store(values, values[total] + value, [total])

    def centred(self, levels: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
        """The level `k` of a word, 0 for the value 0."""
        format = self.task.format
        shift = T.Cast("uint32", k * format.bits)
        level = (levels >> shift) & T.uint32((1 << format.bits) - 1)
        return T.Cast("float32", T.Cast("int32", level) - format.zero_point)

    def _reduce(self, shared: list[tirx.Buffer], thread: tirx.Expr, lane: tirx.Expr) -> None:
        """Sums of a team to those of its first lane."""
        stride = self.lanes // 2
        while stride > 0:
            T.evaluate(T.tvm_storage_sync("shared"))
            with T.If(lane < stride), T.Then():
                for sums in shared:
                    T.buffer_store(sums, sums[thread] + sums[thread + stride], [thread])
            stride //= 2
        T.evaluate(T.tvm_storage_sync("shared"))

    def _store(self, sums: list[tirx.Expr], row: tirx.Expr, place: tirx.Expr, index: int) -> None:
        """The output of the team's row `index`."""
        task = self.task
        factor: tirx.Expr = T.float32(1)
        if task.epsilon is not None:
            mean = sums[self.products] / T.float32(task.columns)
            factor = T.rsqrt(mean + T.float32(task.epsilon))
        value = sums[index] * factor
        if task.gated:
            value = value / (T.float32(1) + T.exp(-value)) * (sums[index + ROWS] * factor)
        self.write(value, row, place)

    def write(self, value: tirx.Expr, row: tirx.Expr, place: tirx.Expr) -> None:
        """The output `place` of an input, plus the residual."""
        if self.task.residual:
            value = value + T.Cast("float32", self.residual[row, place])
        T.buffer_store(self.out, T.Cast(self.task.out_dtype, value), [row, place])
