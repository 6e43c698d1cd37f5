"""A vocabulary in chunks, each weighed and sorted by a workgroup, for `drawing` to search.

Elements find their places in a chunk by comparing with a run of neighbours, then by binary search in the
sorted runs beside: few barriers, and equals stay in the order of their ids.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.gpu.scores import ABSENT, Softness, Weights, key_of
from webbuild.kernels.gpu.workgroup import THREADS, Variable, Workgroup
from webbuild.kernels.interface import DRAW_SETTINGS
from webbuild.kernels.program import argument, build

CHUNK = 1024
EACH = CHUNK // THREADS
# Elements of a first run, each compared with all others of it.
RUN = 16
# Runs that a merge makes one of.
FAN_IN = 4

# A temperature of 1.
PLAIN = Softness(T.float32(2), T.float32(-20))


class Chunks(NamedTuple):
    """What is known of each chunk; where no limit asks for more, only its first key and id, and its sums.

    `keys` and `ids` [chunks, CHUNK] go from the highest score down, `masses` are the running sums of their
    weights beside the chunk's highest; `sums` [chunks, 2] are those of all, and of all at temperature 1.
    """

    keys: tirx.Buffer
    ids: tirx.Buffer
    masses: tirx.Buffer
    sums: tirx.Buffer

    @classmethod
    def arguments(cls, vocabulary: int) -> "Chunks":
        """The program's next arguments."""
        chunks = chunks_of(vocabulary)
        places = (chunks, CHUNK)
        return cls(
            argument("keys", places, "uint32"),
            argument("ids", places, "int32"),
            argument("masses", places, "float32"),
            argument("sums", (chunks, 2), "float32"),
        )


class Settings:
    """The program's next argument, a float32 of each of DRAW_SETTINGS."""

    def __init__(self) -> None:
        self._values = argument("settings", (len(DRAW_SETTINGS),), "float32")

    def __getitem__(self, name: str) -> tirx.Expr:
        return self._values[DRAW_SETTINGS.index(name)]

    @property
    def softness(self) -> Softness:
        return Softness(self["scale"], self["cutoff"])

    @property
    def truncates(self) -> tirx.Expr:
        """Whether some tokens may not be drawn."""
        top_k = self["top_k"] < self["count"]
        any_limit = tirx.any(top_k, self["top_p"] < 1, self["min_p"] > 0)
        return tirx.all(self["scale"] > 0, any_limit)


def chunks_of(vocabulary: int) -> int:
    """How many there are."""
    return -(-vocabulary // CHUNK)


def higher(first: Sequence[tirx.Expr], second: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    """Of two pairs of key and id the one with the higher key, the lower id of equals."""
    beats = tirx.any(second[0] > first[0], tirx.all(second[0] == first[0], second[1] < first[1]))
    return [T.Select(beats, b, a) for a, b in zip(first, second, strict=True)]


def weigh_chunks(vocabulary: int) -> tirx.PrimFunc:
    """logits float32 [vocabulary] and settings to `Chunks`."""
    return build("weigh_chunks", lambda: _Emitter(vocabulary).emit())


class _Emitter:
    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.logits = argument("logits", (vocabulary,), "float32")
        self.settings = Settings()
        self.out = Chunks.arguments(vocabulary)

    def emit(self) -> None:
        settings = self.settings
        with (
            T.thread_binding(0, chunks_of(self.vocabulary), thread="blockIdx.x") as chunk,
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            team = Workgroup(thread)
            keys = T.alloc_buffer((EACH,), "uint32", scope="local")
            highest, first = self._read(keys, chunk, team)
            sums = self._sum(keys, highest, team)
            with T.If(thread == 0), T.Then():
                for index, total in enumerate(sums):
                    T.buffer_store(self.out.sums, total, [chunk, index])
                T.buffer_store(self.out.keys, highest, [chunk, 0])
                T.buffer_store(self.out.ids, first, [chunk, 0])
            with T.If(tirx.any(settings.truncates, settings["top"] > 0)), T.Then():
                run = T.alloc_buffer((CHUNK,), "uint32", scope="shared")
                self._sort(keys, run, chunk, team)
                self._accumulate(run, highest, chunk, team)

    def _read(
        self, keys: tirx.Buffer, chunk: tirx.Expr, team: Workgroup
    ) -> tuple[tirx.Expr, tirx.Expr]:
        """Sets the thread's keys; the chunk's highest, and its id."""
        count = T.Cast("int32", self.settings["count"])
        best, best_id = Variable("uint32", ABSENT), Variable("int32", self.vocabulary)
        with T.serial(0, EACH) as index:
            id = T.bind(chunk * CHUNK + index * THREADS + team.thread)
            key = Variable("uint32", ABSENT)
            with T.If(id < count), T.Then():
                key.set(key_of(self.logits[id]))
            T.buffer_store(keys, key.value, [index])
            with T.If(key.value > best.value), T.Then():
                best.set(key.value)
                best_id.set(id)
        highest, first = team.reduce([best.value, best_id.value], higher)
        return highest, first

    def _sum(self, keys: tirx.Buffer, highest: tirx.Expr, team: Workgroup) -> list[tirx.Expr]:
        """The weights of all, as they are drawn and at temperature 1."""
        softly, plainly = Variable("float32", 0), Variable("float32", 0)
        weights, plain = Weights(highest, self.settings.softness), Weights(highest, PLAIN)
        with T.serial(0, EACH) as index:
            softly.set(softly.value + weights.of(keys[index]))
            plainly.set(plainly.value + plain.of(keys[index]))
        return team.reduce(
            [softly.value, plainly.value], lambda a, b: [x + y for x, y in zip(a, b, strict=True)]
        )

    def _sort(self, keys: tirx.Buffer, run: tirx.Buffer, chunk: tirx.Expr, team: Workgroup) -> None:
        """Puts keys and ids in order; `run` [CHUNK] has the keys then, too."""
        places = T.alloc_buffer((EACH,), "int32", scope="local")
        with T.serial(0, EACH) as index:
            T.buffer_store(places, index * THREADS + team.thread, [index])
        self._place(keys, run, places, team)
        with T.serial(0, EACH) as index:
            self._count(run, keys[index], places, index)
        length = RUN
        while length < CHUNK:
            self._place(keys, run, places, team)
            with T.serial(0, EACH) as index:
                self._merge(run, keys[index], places, index, length)
            length *= FAN_IN
        self._place(keys, run, places, team)
        with T.serial(0, EACH) as index:
            place = T.bind(places[index])
            T.buffer_store(self.out.keys, keys[index], [chunk, place])
            id = chunk * CHUNK + index * THREADS + team.thread
            T.buffer_store(self.out.ids, id, [chunk, place])

    def _place(
        self, keys: tirx.Buffer, run: tirx.Buffer, places: tirx.Buffer, team: Workgroup
    ) -> None:
        team.synchronise()
        with T.serial(0, EACH) as index:
            T.buffer_store(run, keys[index], [places[index]])
        team.synchronise()

    def _count(
        self, run: tirx.Buffer, key: tirx.Expr, places: tirx.Buffer, index: tirx.Expr
    ) -> None:
        """The place within a first run."""
        place = T.bind(places[index])
        found = Variable("int32", place // RUN * RUN)
        with T.serial(0, RUN) as step:
            other = T.bind(place // RUN * RUN + step)
            rival = Variable("uint32", run[other]).value
            equal = tirx.all(rival == key, other < place)
            with T.If(tirx.any(rival > key, equal)), T.Then():
                found.set(found.value + 1)
        T.buffer_store(places, found.value, [index])

    def _merge(
        self, run: tirx.Buffer, key: tirx.Expr, places: tirx.Buffer, index: tirx.Expr, length: int
    ) -> None:
        """The place in FAN_IN runs of `length`: after those before it in its own, and those of the others."""
        own = T.bind(places[index] // length)
        first = T.bind(own // FAN_IN * FAN_IN)
        found = Variable("int32", first * length + places[index] % length)
        with T.serial(0, FAN_IN) as step, T.If(first + step != own), T.Then():
            start = T.bind((first + step) * length)
            low, high = Variable("int32", start), Variable("int32", start + length)
            with T.serial(0, length.bit_length()), T.If(low.value < high.value), T.Then():
                middle = Variable("int32", (low.value + high.value) // 2)
                rival = Variable("uint32", run[middle.value]).value
                comes_first = tirx.any(rival > key, tirx.all(rival == key, first + step < own))
                with T.If(comes_first):
                    with T.Then():
                        low.set(middle.value + 1)
                    with T.Else():
                        high.set(middle.value)
            found.set(found.value + low.value - start)
        T.buffer_store(places, found.value, [index])

    def _accumulate(
        self, run: tirx.Buffer, highest: tirx.Expr, chunk: tirx.Expr, team: Workgroup
    ) -> None:
        """The running sums of the weights in `run`."""
        weights = Weights(highest, self.settings.softness)
        own = Variable("float32", 0)
        with T.serial(0, EACH) as index:
            own.set(own.value + weights.of(run[team.thread * EACH + index]))
        before, _ = team.prefix(own.value)
        sum = Variable("float32", before)
        with T.serial(0, EACH) as index:
            place = T.bind(team.thread * EACH + index)
            sum.set(sum.value + weights.of(run[place]))
            T.buffer_store(self.out.masses, sum.value, [chunk, place])
