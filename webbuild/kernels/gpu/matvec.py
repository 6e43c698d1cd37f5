"""Rows, each alone, times a weight in groups of few bits, with what surrounds that in a decoder layer.

A workgroup is teams of lanes; a team computes a few rows of the weight, neighbouring lanes neighbouring
words of each of them, with a word's inputs in registers for all rows. Of the inputs' normalisation only a
factor is left in the end, of squares that were summed beside the products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.program import argument, build, rows_of, size
from webbuild.quantization.formats import GROUP, TensorFormat

THREADS = 64
# Of a team: each input that is read serves so many.
ROWS = 4


@dataclass(frozen=True, kw_only=True)
class MatVec:
    """What a program computes; `epsilon` is None where inputs aren't normalised.

    A `gated` weight has rows for gates, then as many for what they let through.
    """

    rows: int
    columns: int
    format: TensorFormat
    dtype: str
    out_dtype: str
    epsilon: float | None = None
    gated: bool = False
    residual: bool = False

    @property
    def outputs(self) -> int:
        """Elements of the result."""
        return self.rows // 2 if self.gated else self.rows


def suits(columns: int, format: TensorFormat) -> bool:
    """Whether there is a program for weights of that form."""
    return format.bits > 0 and columns % GROUP == 0


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
    return build("matvec", lambda: _Emitter(task).emit())


class _Emitter:
    def __init__(self, task: MatVec) -> None:
        self.task = task
        self.per_row = task.columns // task.format.levels_per_word
        """Words of a row of the weight."""
        self.lanes = ROWS
        while self.lanes < min(self.per_row, THREADS):
            self.lanes *= 2
        self.teams = THREADS // self.lanes
        self.n = size("n")
        self.x = argument("x", (self.n, task.columns), task.dtype)
        self.words = argument("words", (task.rows, self.per_row), "uint32")
        floats = ["scales", "minimums"] if task.format.has_minimums else ["scales"]
        by_group = (task.rows, task.columns // GROUP)
        self.floats = [argument(name, by_group, task.dtype) for name in floats]
        if task.epsilon is not None:
            self.norm_weight = argument("norm_weight", (task.columns,), task.dtype)
        if task.residual:
            self.residual = argument("residual", (self.n, task.outputs), task.dtype)
        self.out = argument("out", (self.n, task.outputs), task.out_dtype)
        self.products = 2 * ROWS if task.gated else ROWS
        """Sums of products that a lane has; after them, if inputs are normalised, their squares'."""
        self.sums = self.products + (task.epsilon is not None)

    def emit(self) -> None:
        blocks = -(-self.task.outputs // (self.teams * ROWS))
        with (
            T.thread_binding(0, self.n * blocks, thread="blockIdx.x") as place,
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            # Neighbours read the same of the weight.
            row, block = T.bind(place % self.n), T.bind(place // self.n)
            lane = T.bind(thread % self.lanes)
            first = T.bind((block * self.teams + thread // self.lanes) * ROWS)
            totals = T.alloc_buffer((self.sums,), "float32", scope="local")
            # One for each sum: TVM wants a barrier between accesses of different threads to the same one.
            shared = [
                T.alloc_buffer((THREADS,), "float32", scope="shared") for _ in range(self.sums)
            ]
            with T.unroll(0, self.sums) as index:
                T.buffer_store(totals, T.float32(0), [index])
            with T.serial(0, -(-self.per_row // self.lanes)) as turn:
                word = T.bind(turn * self.lanes + lane)
                with T.If(word < self.per_row), T.Then():
                    self._add_word(totals, row, first, word)
            for index, sums in enumerate(shared):
                T.buffer_store(sums, totals[index], [thread])
            self._reduce(shared, thread, lane)
            for index in range(ROWS):
                is_its_turn = tirx.all(lane == index, first + index < self.task.outputs)
                with T.If(is_its_turn), T.Then():
                    self._store([sums[thread - lane] for sums in shared], row, first + index, index)

    def _add_word(
        self, totals: tirx.Buffer, row: tirx.Expr, first: tirx.Expr, word: tirx.Expr
    ) -> None:
        """The products of a word in all of the team's rows of the weight."""
        format = self.task.format
        inputs = self._inputs(totals, row, word)
        levels = T.alloc_buffer((1,), "uint32", scope="local")
        product = T.alloc_buffer((1,), "float32", scope="local")
        group = T.bind(word // format.words_per_group)
        with T.unroll(0, self.products) as index:
            output = T.bind(self._weight_row(first, index))
            T.buffer_store(levels, self.words[output, word], [0])
            T.buffer_store(product, T.float32(0), [0])
            with T.unroll(0, format.levels_per_word) as k:
                value = inputs[k] * self._centred(levels[0], k)
                T.buffer_store(product, product[0] + value, [0])
            scale, *minimum = (T.Cast("float32", tensor[output, group]) for tensor in self.floats)
            value = product[0] * scale
            if minimum:
                value = value + inputs[format.levels_per_word] * minimum[0]
            T.buffer_store(totals, totals[index] + value, [index])

    def _inputs(self, totals: tirx.Buffer, row: tirx.Expr, word: tirx.Expr) -> tirx.Buffer:
        """A word's inputs, then their sum; their squares are added to the totals."""
        count = self.task.format.levels_per_word
        inputs = T.alloc_buffer((count + 1,), "float32", scope="local")
        T.buffer_store(inputs, T.float32(0), [count])
        with T.unroll(0, count) as k:
            T.buffer_store(inputs, T.Cast("float32", self.x[row, word * count + k]), [k])
            if self.task.epsilon is not None:
                squares = totals[self.products] + inputs[k] * inputs[k]
                T.buffer_store(totals, squares, [self.products])
                factor = T.Cast("float32", self.norm_weight[word * count + k])
                T.buffer_store(inputs, inputs[k] * factor, [k])
            T.buffer_store(inputs, inputs[count] + inputs[k], [count])
        return inputs

    def _weight_row(self, first: tirx.Expr, index: tirx.Expr) -> tirx.Expr:
        """Of a team: its rows, then those that they gate.

        Past the end it is the last one again, whose sum nobody stores.
        """
        row = T.min(first + index % ROWS, self.task.outputs - 1)
        return row + index // ROWS * self.task.outputs

    def _centred(self, levels: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
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
        if task.residual:
            value = value + T.Cast("float32", self.residual[row, place])
        T.buffer_store(self.out, T.Cast(task.out_dtype, value), [row, place])
