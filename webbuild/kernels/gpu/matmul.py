"""Prompts times a weight in groups of few bits, with the activation or residual after it.

A workgroup computes a tile of the result, tokens by rows of the weight. Columns of both pass through its
memory, a few at a time, levels as the values that they stand for. Each thread has a few tokens and rows of
its own, in vectors of 4, whose sums are in float32. A few tokens are a step of as many sequences.
"""

from collections.abc import Sequence
from dataclasses import replace

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.gpu.matvec import MatVec, Piece, Rows
from webbuild.kernels.program import build, rows_of
from webbuild.quantization.formats import GROUP

# Tokens of a tile, and rows of the weight: gates and what they let through count apart.
TILE = 64
LANES = 4
VECTORS = TILE // LANES
# A thread's: of a gated result, a gate's vector and another.
ROW_VECTORS = 2
TOKEN_VECTORS = 2
THREADS = VECTORS // ROW_VECTORS * (VECTORS // TOKEN_VECTORS)
# Columns of a token that neighbouring threads read.
NEIGHBOURS = 8
# Columns that are written at once lie in different banks.
TOKEN_STRIDE = VECTORS + 1
# More tokens than these are worth a tile.
FEW = 16


def matmul(
    x: Tensor, weight: Sequence[Tensor], task: MatVec, *, residual: Tensor | None = None
) -> Tensor:
    """x [..., columns] to [..., outputs]; the weight is as in `webbuild.kernels.plain`."""
    *lead, columns = x.shape
    count = rows_of(lead)
    inputs = [op.reshape(x, (count, columns)), *weight]
    if residual is not None:
        inputs.append(op.reshape(residual, (count, task.outputs)))
    out = Tensor.placeholder((count, task.outputs), task.out_dtype)
    y = op.tensor_ir_op(program(task), "matmul", inputs, out)
    return op.reshape(y, (*lead, task.outputs))


def program(task: MatVec) -> tirx.PrimFunc:
    """x [n, columns], the weight's tensors, the residual and the result [n, outputs].

    `task` has no norm.
    """

    def emit() -> None:
        rows = Rows(replace(task, batched=True))
        with T.If(rows.n <= FEW):
            with T.Then():
                rows.emit()
            with T.Else():
                for piece in rows.pieces:
                    _Tile(rows, piece).emit()

    return build("matmul", emit)


class _Tile:
    def __init__(self, rows: Rows, piece: Piece) -> None:
        self.rows = rows
        self.piece = piece
        self.task = rows.task
        # Of both types, as much workgroup memory.
        self.step = GROUP if self.task.dtype == "float16" else GROUP // 2
        self.outputs = TILE // 2 if self.task.gated else TILE
        """Of a tile, for each token."""

    def emit(self) -> None:
        task, rows = self.task, self.rows
        turns = (rows.n + (TILE - 1)) // TILE
        blocks = -(-self.piece.outputs // self.outputs)
        with (
            # Neighbours read the same of the weight.
            T.thread_binding(0, turns, thread="blockIdx.x") as turn,
            T.thread_binding(0, blocks, thread="blockIdx.y") as block,
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            first_token = T.bind(turn * TILE)
            first_output = T.bind(block * self.outputs)
            vector = f"{task.dtype}x{LANES}"
            weights = T.alloc_buffer((self.step * VECTORS,), vector, scope="shared")
            tokens = T.alloc_buffer((self.step * TOKEN_STRIDE,), vector, scope="shared")
            count = TOKEN_VECTORS * LANES
            totals = T.alloc_buffer((count, ROW_VECTORS), f"float32x{LANES}", scope="local")
            for token in range(count):
                for part in range(ROW_VECTORS):
                    T.buffer_store(totals, T.Broadcast(T.float32(0), LANES), [token, part])
            with T.serial(0, task.columns // self.step) as step:
                column = T.bind(step * self.step)
                T.evaluate(T.tvm_storage_sync("shared"))
                self._read_tokens(tokens, first_token, column, thread)
                self._read_weights(weights, first_output, column, thread)
                T.evaluate(T.tvm_storage_sync("shared"))
                with T.serial(0, self.step) as k:
                    self._multiply(totals, weights, tokens, k, thread)
            self._store(totals, first_token, first_output, thread)

    def _row_vector(self, thread: tirx.Expr, part: int) -> tirx.Expr:
        """Of a thread, in the tile; that of a gated one is a gate's, then what it lets through."""
        return thread % (VECTORS // ROW_VECTORS) + part * (VECTORS // ROW_VECTORS)

    def _token_vector(self, thread: tirx.Expr, part: int) -> tirx.Expr:
        groups = VECTORS // TOKEN_VECTORS
        return thread // (VECTORS // ROW_VECTORS) + part * groups

    def _read_tokens(
        self, tokens: tirx.Buffer, first: tirx.Expr, column: tirx.Expr, thread: tirx.Expr
    ) -> None:
        """Past the end it is the last one again, whose results nobody stores."""
        rows = self.rows
        for turn in range(self.step * VECTORS // THREADS):
            flat = turn * THREADS + thread
            group = T.bind(flat // NEIGHBOURS % VECTORS)
            k = T.bind(flat // NEIGHBOURS // VECTORS * NEIGHBOURS + flat % NEIGHBOURS)
            own = [T.min(first + group * LANES + lane, rows.n - 1) for lane in range(LANES)]
            values = [rows.x[token, column + k] for token in own]
            T.buffer_store(tokens, _vector(values), [k * TOKEN_STRIDE + group])

    def _read_weights(
        self, weights: tirx.Buffer, first: tirx.Expr, column: tirx.Expr, thread: tirx.Expr
    ) -> None:
        """A thread has some columns of 4 rows, all in a word of each."""
        rows, piece = self.rows, self.piece
        format = self.task.format
        own = min(self.step * VECTORS // THREADS, format.levels_per_word)
        for turn in range(self.step * VECTORS // own // THREADS):
            flat = turn * THREADS + thread
            vector, k = T.bind(flat % VECTORS), T.bind(flat // VECTORS * own)
            outputs = [self._weight_row(first, vector, lane) for lane in range(LANES)]
            place = T.bind(column + k)
            words = [T.bind(piece.words[row, place // format.levels_per_word]) for row in outputs]
            floats = [
                [T.bind(T.Cast("float32", each[row, place // GROUP])) for row in outputs]
                for each in piece.floats
            ]
            for index in range(own):
                level = place % format.levels_per_word + index
                values = []
                for lane in range(LANES):
                    value = rows.centred(words[lane], level) * floats[0][lane]
                    if format.has_minimums:
                        value = value + floats[1][lane]
                    values.append(T.Cast(self.task.dtype, value))
                T.buffer_store(weights, _vector(values), [(k + index) * VECTORS + vector])

    def _weight_row(self, first: tirx.Expr, vector: tirx.Expr, lane: int) -> tirx.Expr:
        """Of the tile's rows, as `_row_vector` numbers them."""
        if not self.task.gated:
            return T.bind(self.piece.row(first + vector * LANES + lane, 0))
        half = VECTORS // ROW_VECTORS
        return T.bind(self.piece.row(first + vector % half * LANES + lane, vector // half))

    def _multiply(
        self,
        totals: tirx.Buffer,
        weights: tirx.Buffer,
        tokens: tirx.Buffer,
        k: tirx.Expr,
        thread: tirx.Expr,
    ) -> None:
        """A column's products."""
        wide = f"float32x{LANES}"
        values = [
            T.bind(T.Cast(wide, weights[k * VECTORS + self._row_vector(thread, part)]))
            for part in range(ROW_VECTORS)
        ]
        for part in range(TOKEN_VECTORS):
            place = k * TOKEN_STRIDE + self._token_vector(thread, part)
            group = T.bind(T.Cast(wide, tokens[place]))
            for lane in range(LANES):
                token = part * LANES + lane
                scale = T.Broadcast(_element(group, lane), LANES)
                for index, value in enumerate(values):
                    total = totals[token, index] + value * scale
                    T.buffer_store(totals, total, [token, index])

    def _store(
        self,
        totals: tirx.Buffer,
        first_token: tirx.Expr,
        first_output: tirx.Expr,
        thread: tirx.Expr,
    ) -> None:
        """What of a thread's results is in the result."""
        task, rows = self.task, self.rows
        parts = 1 if task.gated else ROW_VECTORS
        for token in range(TOKEN_VECTORS * LANES):
            vector = self._token_vector(thread, token // LANES)
            row = T.bind(first_token + vector * LANES + token % LANES)
            for part in range(parts):
                place = T.bind(first_output + self._row_vector(thread, part) * LANES)
                for lane in range(LANES):
                    with T.If(tirx.all(row < rows.n, place + lane < self.piece.outputs)), T.Then():
                        value = _element(totals[token, part], lane)
                        if task.gated:
                            gate = T.bind(value)
                            let_through = _element(totals[token, 1], lane)
                            value = gate / (T.float32(1) + T.exp(-gate)) * let_through
                        rows.write(value, row, self.piece.first + place + lane)


def _vector(values: Sequence[tirx.Expr]) -> tirx.Expr:
    """Scalars as one."""
    return tirx.Shuffle(list(values), list(range(len(values))))


def _element(vector: tirx.Expr, index: int) -> tirx.Expr:
    return tirx.Shuffle([vector], [index])
