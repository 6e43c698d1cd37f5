"""Draws a token: `chunks` weighs and sorts parts of the vocabulary, one workgroup then searches them.

What may be drawn are the first tokens by score: those above a border, and some of its equals, the lowest
ids first. Borders are found bit by bit of the scores' keys, each time by the number or the mass of what is
above in all chunks.
"""

from collections.abc import Callable

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.gpu.chunks import (
    CHUNK,
    EACH,
    PLAIN,
    Chunks,
    Settings,
    chunks_of,
    higher,
    weigh_chunks,
)
from webbuild.kernels.gpu.scores import ABSENT, Weights, bits_of, key_of
from webbuild.kernels.gpu.workgroup import THREADS, Variable, Workgroup
from webbuild.kernels.interface import DRAW_HEAD, MOST_TOP
from webbuild.kernels.program import argument, build

KEY_BITS = 32

Measure = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


def draw(logits: Tensor, settings: Tensor) -> Tensor:
    """As `Kernels.draw`."""
    (vocabulary,) = (int(extent) for extent in logits.shape)
    places = (chunks_of(vocabulary), CHUNK)
    shapes = {"uint32": places, "int32": places, "float32": places}
    found = [Tensor.placeholder(shape, dtype) for dtype, shape in shapes.items()]
    found.append(Tensor.placeholder((places[0], 2), "float32"))
    chunks = op.tensor_ir_op(weigh_chunks(vocabulary), "weigh_chunks", [logits, settings], found)
    out = Tensor.placeholder((DRAW_HEAD + 2 * MOST_TOP,), "int32")
    program = draw_from_chunks(vocabulary)
    return op.tensor_ir_op(program, "draw_from_chunks", [logits, settings, *chunks], out)


def draw_from_chunks(vocabulary: int) -> tirx.PrimFunc:
    """logits float32 [vocabulary], settings and `Chunks` to what `Kernels.draw` gives."""
    return build("draw_from_chunks", lambda: _Emitter(vocabulary).emit())


class _Emitter:
    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.chunks = chunks_of(vocabulary)
        # Neighbouring ones, of each thread.
        self.own = -(-self.chunks // THREADS)
        self.logits = argument("logits", (vocabulary,), "float32")
        self.settings = Settings()
        self.found = Chunks.arguments(vocabulary)
        self.out = argument("out", (DRAW_HEAD + 2 * MOST_TOP,), "int32")

    def emit(self) -> None:
        with (
            T.thread_binding(0, 1, thread="blockIdx.x"),
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            self.team = Workgroup(thread)
            self.places = T.alloc_buffer((self.own,), "int32", scope="local")
            highest, first = self._first()
            self._emit_sum(highest)
            drawn = Variable("int32", first)
            with T.If(self.settings["scale"] > 0), T.Then():
                drawn.set(_Draw(self, highest).emit())
            with T.If(thread == 0), T.Then():
                self._write(0, drawn.value)
                self._write(1, bits_of(key_of(self.logits[drawn.value])))
                self._write(2, bits_of(highest))
            self._emit_top()

    def _write(self, place: tirx.Expr | int, value: tirx.Expr) -> None:
        T.buffer_store(self.out, T.reinterpret("int32", value), [place])

    def chunk(self, index: tirx.Expr) -> tirx.Expr:
        """The thread's chunk of that index, which may lie beyond the last one."""
        return self.team.thread * self.own + index

    def _first(self) -> list[tirx.Expr]:
        """Key and id of the first token by score; `places` are set to those of the chunks' first tokens."""
        with T.serial(0, self.own) as index:
            T.buffer_store(self.places, T.int32(0), [index])
        return self._best()

    def _best(self) -> list[tirx.Expr]:
        """Key and id of the first token by score of those in `places`."""
        key, id = Variable("uint32", ABSENT), Variable("int32", self.vocabulary)
        with T.serial(0, self.own) as index:
            place = T.bind(self.places[index])
            there = tirx.all(self.chunk(index) < self.chunks, place < CHUNK)
            with T.If(there), T.Then():
                rival = Variable("uint32", self.found.keys[self.chunk(index), place]).value
                with T.If(rival > key.value), T.Then():
                    key.set(rival)
                    id.set(self.found.ids[self.chunk(index), place])
        return self.team.reduce([key.value, id.value], higher)

    def _emit_sum(self, highest: tirx.Expr) -> None:
        own, weights = Variable("float32", 0), Weights(highest, PLAIN)
        with T.serial(0, self.own) as index, T.If(self.chunk(index) < self.chunks), T.Then():
            factor = weights.of(self.found.keys[self.chunk(index), 0])
            own.set(own.value + factor * self.found.sums[self.chunk(index), 1])
        total = self.team.sum(own.value)
        with T.If(self.team.thread == 0), T.Then():
            self._write(3, total)

    def _emit_top(self) -> None:
        """Takes the first token again and again."""
        with T.serial(0, T.Cast("int32", self.settings["top"])) as step:
            key, id = self._best()
            with T.If(self.team.thread == 0), T.Then():
                self._write(DRAW_HEAD + 2 * step, id)
                self._write(DRAW_HEAD + 2 * step + 1, bits_of(key))
            with T.serial(0, self.own) as index:
                taken = T.Cast("int32", id // CHUNK == self.chunk(index))
                T.buffer_store(self.places, self.places[index] + taken, [index])


class _Draw:
    """Draws by temperature, within top_k, top_p and min_p.

    Of each of a thread's chunks, so many tokens are `above` the border, or at it too in `reached`; the first
    `quota` of its equals, in order of id, may be drawn, and all that may weigh `masses`.
    """

    def __init__(self, program: _Emitter, highest: tirx.Expr) -> None:
        self.program = program
        self.settings, self.found, self.team = program.settings, program.found, program.team
        self.weights = Weights(highest, self.settings.softness)
        own = (program.own,)
        self.factors = T.alloc_buffer(own, "float32", scope="local")
        self.masses = T.alloc_buffer(own, "float32", scope="local")
        self.above = T.alloc_buffer(own, "int32", scope="local")
        self.reached = T.alloc_buffer(own, "int32", scope="local")
        self.middle = T.alloc_buffer(own, "int32", scope="local")
        self.quota = T.alloc_buffer(own, "int32", scope="local")
        self.border = Variable("uint32", ABSENT)
        # Of those that equal the border, in all chunks.
        self.equals = Variable("float32", program.chunks * CHUNK)

    def emit(self) -> tirx.Expr:
        """The token's id."""
        self._weigh()
        with T.If(self.settings.truncates), T.Then():
            self._truncate()
        return self._pick()

    def _chunks(self, value: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
        """The sum of a float32 of the thread's chunks by their index."""
        own = Variable("float32", 0)
        with T.serial(0, self.program.own) as index:
            own.set(own.value + value(index))
        return own.value

    def _weigh(self) -> None:
        with T.serial(0, self.program.own) as index:
            chunk = T.bind(self.program.chunk(index))
            T.buffer_store(self.factors, T.float32(0), [index])
            T.buffer_store(self.masses, T.float32(0), [index])
            T.buffer_store(self.quota, T.int32(0), [index])
            with T.If(chunk < self.program.chunks), T.Then():
                factor = self.weights.of(self.found.keys[chunk, 0])
                T.buffer_store(self.factors, factor, [index])
                T.buffer_store(self.masses, factor * self.found.sums[chunk, 0], [index])

    def _truncate(self) -> None:
        settings = self.settings
        mass = Variable("float32", self.team.sum(self._chunks(lambda index: self.masses[index])))
        self._reset()
        with T.If(settings["top_k"] < settings["count"]), T.Then():
            self._search(settings["top_k"], lambda _, place: T.Cast("float32", place))
            above = self.team.sum(self._chunks(lambda i: T.Cast("float32", self.above[i])))
            self.equals.set(settings["top_k"] - above)
            first = self.team.sum(self._chunks(lambda i: self._mass(i, self.above[i])))
            mass.set(first + self.equals.value * self.weights.of(self.border.value))
        with T.If(settings["top_p"] < 1), T.Then():
            self._keep_mass(Variable("float32", mass.value * settings["top_p"]).value)
        self._share_equals()
        with T.serial(0, self.program.own) as index:
            kept = T.bind(self.above[index] + self.quota[index])
            place = self._find(
                index, 0, kept, lambda key: self.weights.of(key) >= settings["min_p"]
            )
            T.buffer_store(self.masses, self._mass(index, place), [index])

    def _reset(self) -> None:
        """Borders may lie anywhere."""
        with T.serial(0, self.program.own) as index:
            T.buffer_store(self.above, T.int32(0), [index])
            there = self.program.chunk(index) < self.program.chunks
            T.buffer_store(self.reached, T.Select(there, CHUNK, 0), [index])

    def _keep_mass(self, goal: tirx.Expr) -> None:
        """Moves the border up to where the mass reaches the goal."""
        lowest = Variable("uint32", self.border.value).value
        first = Variable("float32", self.equals.value).value
        self.border.set(ABSENT)
        self._reset()
        self._search(goal, self._mass, lowest)
        above = self.team.sum(self._chunks(lambda i: self._mass(i, self.above[i])))
        each = self.weights.of(self.border.value)
        most = Variable("float32", self.program.chunks * CHUNK)
        with T.If(tirx.all(lowest > 0, lowest == self.border.value)), T.Then():
            most.set(first)
        self.equals.set(most.value)
        with T.If(each > 0), T.Then():
            self.equals.set(T.min(T.max(T.ceil((goal - above) / each), T.float32(1)), most.value))

    def _search(self, goal: tirx.Expr, measure: Measure, lowest: tirx.Expr | None = None) -> None:
        """Sets the border to the highest at which `measure` reaches `goal`, or to the lowest one allowed."""
        with T.serial(0, KEY_BITS) as bit:
            tried = T.uint32(1 << 31) >> T.Cast("uint32", bit)
            tried = Variable("uint32", self.border.value | tried).value
            with T.serial(0, self.program.own) as index:
                low, high = self.above[index], self.reached[index]
                place = self._find(index, low, high, lambda key: key >= tried)
                T.buffer_store(self.middle, place, [index])
            total = self.team.sum(self._chunks(lambda i: measure(i, self.middle[i])))
            reaches = total >= goal
            if lowest is not None:
                reaches = tirx.any(reaches, tried <= lowest)
            with T.If(reaches):
                with T.Then():
                    self.border.set(tried)
                    self._copy(self.middle, self.reached)
                with T.Else():
                    self._copy(self.middle, self.above)

    def _copy(self, source: tirx.Buffer, target: tirx.Buffer) -> None:
        with T.serial(0, self.program.own) as index:
            T.buffer_store(target, source[index], [index])

    def _find(
        self,
        index: tirx.Expr,
        low: tirx.Expr | int,
        high: tirx.Expr,
        holds: Callable[[tirx.Expr], tirx.Expr],
    ) -> tirx.Expr:
        """The first place from `low` on of a chunk's keys that isn't as those before; `high` if none is."""
        first, end = Variable("int32", low), Variable("int32", high)
        with T.serial(0, CHUNK.bit_length()), T.If(first.value < end.value), T.Then():
            middle = Variable("int32", (first.value + end.value) // 2).value
            key = Variable("uint32", self.found.keys[self.program.chunk(index), middle]).value
            with T.If(holds(key)):
                with T.Then():
                    first.set(middle + 1)
                with T.Else():
                    end.set(middle)
        return first.value

    def _mass(self, index: tirx.Expr, place: tirx.Expr) -> tirx.Expr:
        """Of a chunk's tokens before a place."""
        mass = Variable("float32", 0)
        with T.If(place > 0), T.Then():
            before = self.found.masses[self.program.chunk(index), place - 1]
            mass.set(before * self.factors[index])
        return mass.value

    def _share_equals(self) -> None:
        """Gives the lowest ids their quotas."""
        here = self._chunks(lambda i: T.Cast("float32", self.reached[i] - self.above[i]))
        before, _ = self.team.prefix(here)
        left = Variable("int32", T.Cast("int32", self.equals.value - before))
        with T.serial(0, self.program.own) as index:
            equal = self.reached[index] - self.above[index]
            T.buffer_store(self.quota, T.max(T.min(left.value, equal), 0), [index])
            left.set(left.value - equal)

    def _pick(self) -> tirx.Expr:
        """The first id whose running sum exceeds its share of the masses."""
        before, total = self.team.prefix(self._chunks(lambda index: self.masses[index]))
        goal = Variable("float32", total * self.settings["u"]).value
        sums = T.alloc_buffer((self.program.own,), "float32", scope="local")
        running = Variable("float32", before)
        choice = _Choice(self.program.chunks)
        with T.serial(0, self.program.own) as index:
            T.buffer_store(sums, running.value, [index])
            running.set(running.value + self.masses[index])
            choice.offer(self.program.chunk(index), self.masses[index], running.value > goal)
        chunk = Variable("int32", choice.made(self.team)).value

        def of_chosen(value: tirx.Expr, index: tirx.Expr) -> tirx.Expr:
            return T.Select(self.program.chunk(index) == chunk, value, T.float32(0))

        rest = self._chunks(lambda i: of_chosen(goal - sums[i], i))
        quota = self._chunks(lambda i: of_chosen(T.Cast("float32", self.quota[i]), i))
        return self._pick_from(chunk, self.team.sum(rest), self.team.sum(quota))

    def _pick_from(self, chunk: tirx.Expr, rest: tirx.Expr, quota: tirx.Expr) -> tirx.Expr:
        """Of a chunk, the first id whose running sum exceeds `rest`."""
        keys = T.alloc_buffer((EACH,), "uint32", scope="local")
        weights = T.alloc_buffer((EACH,), "float32", scope="local")
        start = T.bind(chunk * CHUNK + self.team.thread * EACH)
        equals, own = Variable("float32", 0), Variable("float32", 0)
        with T.serial(0, EACH) as index:
            T.buffer_store(keys, T.uint32(ABSENT), [index])
            with T.If(start + index < T.Cast("int32", self.settings["count"])), T.Then():
                T.buffer_store(keys, key_of(self.program.logits[start + index]), [index])
            equals.set(equals.value + T.Cast("float32", keys[index] == self.border.value))
        before, _ = self.team.prefix(equals.value)
        rank = Variable("float32", before)
        with T.serial(0, EACH) as index:
            weight = self.weights.of(keys[index])
            equal = keys[index] == self.border.value
            first = tirx.any(keys[index] > self.border.value, tirx.all(equal, rank.value < quota))
            kept = tirx.all(first, weight >= self.settings["min_p"])
            T.buffer_store(weights, T.Select(kept, weight, T.float32(0)), [index])
            own.set(own.value + weights[index])
            rank.set(rank.value + T.Cast("float32", equal))
        before, _ = self.team.prefix(own.value)
        running = Variable("float32", before)
        choice = _Choice(self.program.chunks * CHUNK)
        with T.serial(0, EACH) as index:
            running.set(running.value + weights[index])
            choice.offer(start + index, weights[index], running.value > rest)
        return choice.made(self.team)


class _Choice:
    """Of numbers below `count` the first with enough; if rounding leaves none, the last with anything."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._best = Variable("int32", 3 * count)

    def offer(self, number: tirx.Expr, weight: tirx.Expr, is_enough: tirx.Expr) -> None:
        rank = T.Select(is_enough, number, 2 * self._count - number)
        with T.If(tirx.all(weight > 0, rank < self._best.value)), T.Then():
            self._best.set(rank)

    def made(self, team: Workgroup) -> tirx.Expr:
        (rank,) = team.reduce([self._best.value], lambda a, b: [T.min(a[0], b[0])])
        number = T.Select(rank < self._count, rank, 2 * self._count - rank)
        # Nothing weighs anything where scores aren't numbers.
        return T.max(number, 0)
