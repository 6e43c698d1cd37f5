"""Statements of programs whose threads combine, within a workgroup, what each of them has."""

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T

THREADS = 256
# Threads whose values one of them combines; the combinations of groups are as many.
GROUP = 16

Combine = Callable[[Sequence[tirx.Expr], Sequence[tirx.Expr]], Sequence[tirx.Expr]]


class Variable:
    """A number of each thread's own."""

    def __init__(self, dtype: str, value: tirx.Expr | float) -> None:
        self._cell = T.alloc_buffer((1,), dtype, scope="local")
        self._dtype = dtype
        self.set(value)

    @property
    def value(self) -> tirx.Expr:
        """What it holds where the expression is computed."""
        return self._cell[0]

    def set(self, value: tirx.Expr | float) -> None:
        number = value if isinstance(value, tirx.Expr) else tirx.const(value, self._dtype)
        T.buffer_store(self._cell, number, [0])


class Workgroup:
    """All THREADS threads of one, which must reach each call together.

    What is combined is combined in the order of the threads, so that sums are the same each time.
    """

    def __init__(self, thread: tirx.Expr) -> None:
        self.thread = thread
        self._shared: list[tuple[str, tirx.Buffer, tirx.Buffer]] = []

    def synchronise(self) -> None:
        """Lets every thread see what the others have written."""
        T.evaluate(T.tvm_storage_sync("shared"))

    def sum(self, value: tirx.Expr) -> tirx.Expr:
        """Of all threads' float32."""
        return self.reduce([value], lambda a, b: [a[0] + b[0]])[0]

    def reduce(self, values: Sequence[tirx.Expr], combine: Combine) -> list[tirx.Expr]:
        """All threads' tuples made one by an associative function."""
        _, groups = self._share(values, combine)
        found = self._fold(groups, T.int32(0), THREADS // GROUP, combine)
        return [each.value for each in found]

    def prefix(self, value: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """The sum of the threads' float32 before this one's, and of all."""

        def add(a: Sequence[tirx.Expr], b: Sequence[tirx.Expr]) -> list[tirx.Expr]:
            return [a[0] + b[0]]

        (each,), (groups,) = self._share([value], add)
        before, total = Variable("float32", 0), Variable("float32", 0)
        own = self.thread // GROUP
        with T.serial(0, THREADS // GROUP) as group:
            with T.If(group == own), T.Then():
                before.set(total.value)
            total.set(total.value + groups[group])
        with T.serial(0, GROUP) as place, T.If(place < self.thread % GROUP), T.Then():
            before.set(before.value + each[own * GROUP + place])
        # The next call begins by overwriting what is read here.
        self.synchronise()
        return before.value, total.value

    def _share(
        self, values: Sequence[tirx.Expr], combine: Combine
    ) -> tuple[list[tirx.Buffer], list[tirx.Buffer]]:
        """Each thread's values, and those of each group made one, for all threads to read."""
        each, groups = self._buffers([str(value.ty.dtype) for value in values])
        for buffer, value in zip(each, values, strict=True):
            T.buffer_store(buffer, value, [self.thread])
        self.synchronise()
        with T.If(self.thread < THREADS // GROUP), T.Then():
            found = self._fold(each, self.thread * GROUP, GROUP, combine)
            for buffer, variable in zip(groups, found, strict=True):
                T.buffer_store(buffer, variable.value, [self.thread])
        self.synchronise()
        return each, groups

    def _fold(
        self, buffers: Sequence[tirx.Buffer], start: tirx.Expr, count: int, combine: Combine
    ) -> list[Variable]:
        found = [Variable(str(buffer.dtype), buffer[start]) for buffer in buffers]
        with T.serial(1, count) as place:
            others = [Variable(str(buffer.dtype), buffer[start + place]) for buffer in buffers]
            combined = combine([one.value for one in found], [one.value for one in others])
            results = [
                Variable(str(buffer.dtype), value)
                for buffer, value in zip(buffers, combined, strict=True)
            ]
            for variable, result in zip(found, results, strict=True):
                variable.set(result.value)
        return found

    def _buffers(self, dtypes: list[str]) -> tuple[list[tirx.Buffer], list[tirx.Buffer]]:
        """The same for every call."""
        found = []
        free = list(self._shared)
        for dtype in dtypes:
            known = next((entry for entry in free if entry[0] == dtype), None)
            if known is None:
                each = T.alloc_buffer((THREADS,), dtype, scope="shared")
                known = (dtype, each, T.alloc_buffer((THREADS // GROUP,), dtype, scope="shared"))
                self._shared.append(known)
            else:
                free.remove(known)
            found.append(known)
        return [each for _, each, _ in found], [groups for _, _, groups in found]
