"""Attention of single tokens on hardware: parts of a context, each by workgroups of its own, then joined.

Signatures and conventions are those of webbuild.kernels.gpu.attention. What is read of keys and values
serves all query heads that share them. Keys pass through workgroup memory: neighbouring lanes read
neighbouring features, and then score a key each, so that no sum crosses lanes.
"""

from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.gpu.attention import LOG2_E, LOWEST, PAGE, THREADS
from webbuild.kernels.heads import HeadShape, offset_argument
from webbuild.kernels.program import argument, build, size

# Pages of a part, and its tokens.
PART_PAGES = 8
PART = PART_PAGES * PAGE
# Features of keys that pass through workgroup memory at once.
FEATURES = 32
# Query heads of a workgroup: their scores have to fit its memory.
MAX_QUERIES = 8
# Less than any score, and finite.
MASKED = -3e38
# Values that a lane asks for before it waits for the first.
AHEAD = 8


def split_decode(heads: int, kv_heads: int, width: int, dtype: str) -> tirx.PrimFunc:
    """One new token a sequence: a kernel for the parts of contexts, then one that joins them."""
    shape = _Shape(heads, kv_heads, width)
    return build("split_decode", lambda: _emit(shape, dtype))


def parts_bytes(heads: int, width: int, tokens: int, sequences: int) -> int:
    """Size of the larger of that program's own buffers, for so many tokens in all."""
    return 4 * heads * width * (tokens // PART + sequences)


class _Shape(HeadShape):
    @property
    def workgroups(self) -> int:
        """So many share the query heads of a group."""
        return -(-self.group // MAX_QUERIES)

    @property
    def queries(self) -> int:
        """Query heads of a workgroup; past the group's end it has the last one again."""
        return -(-self.group // self.workgroups)

    @property
    def features(self) -> int:
        """Of the output, for each lane."""
        return -(-self.width // THREADS)


@dataclass(frozen=True)
class _Sequences:
    """Where the tokens of sequences lie."""

    page_indptr: tirx.Buffer
    page_values: tirx.Buffer
    last_length: tirx.Buffer
    batch: tirx.Var
    used_pages: tirx.Var

    @property
    def most_parts(self) -> tirx.Expr:
        """At least as many as all sequences have."""
        return self.used_pages // PART_PAGES + self.batch

    def first_part(self, sequence: tirx.Expr) -> tirx.Expr:
        """The number of a sequence's first part: known without those before it, some stay unused."""
        return self.page_indptr[sequence] // PART_PAGES + sequence

    def parts(self, sequence: tirx.Expr) -> tirx.Expr:
        """How many parts a sequence has."""
        pages = self.page_indptr[sequence + 1] - self.page_indptr[sequence]
        return (pages + (PART_PAGES - 1)) // PART_PAGES

    def of_part(self, part: tirx.Expr) -> tirx.Expr:
        """The sequence of a part."""
        found = _local((1,), "int32")
        T.buffer_store(found, T.int32(0), [0])
        with T.serial(0, self.batch) as sequence:
            begins = self.first_part(sequence) <= part
            T.buffer_store(found, T.Select(begins, sequence, found[0]), [0])
        return T.bind(found[0])

    def page(self, place: tirx.Expr) -> tirx.Expr:
        """The page at a place of the list, of which lanes without a token may be past the end."""
        return self.page_values[T.min(place, self.used_pages - 1)]


def _emit(shape: _Shape, dtype: str) -> None:
    batch, used, pool = (size(name, "int32") for name in ("batch", "used_pages", "max_pages"))
    q = argument("q", (batch, shape.heads, shape.width), dtype)
    page_shape = (pool, 2, shape.kv_heads, PAGE, shape.width)
    pages = argument("pages", page_shape, dtype, elem_offset=size("pages_offset"))
    indptr = offset_argument("page_indptr", batch + 1)
    sequences = _Sequences(
        indptr,
        offset_argument("page_values", used),
        offset_argument("last_length", batch),
        batch,
        used,
    )
    offset_argument("k_offset", batch)
    offset_argument("q_position", batch)
    output = argument("output", (batch, shape.heads, shape.width), dtype)
    lse = argument("lse", (batch, shape.heads), "float32")
    T.arg("rotary_mode", T.int32())
    T.arg("rope_scale", T.float32())
    T.arg("rope_theta", T.float32())
    sm_scale = T.arg("sm_scale", T.float32())
    parts = sequences.most_parts
    values = T.alloc_buffer((parts, shape.heads, shape.width), "float32", scope="global")
    # The largest score, and the sum of powers relative to it.
    states = T.alloc_buffer((parts, shape.heads, 2), "float32", scope="global")
    with (
        T.thread_binding(0, parts, thread="blockIdx.x") as part,
        T.thread_binding(0, shape.kv_heads * shape.workgroups, thread="blockIdx.y") as place,
        T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
    ):
        _Part(shape, sequences, q, pages, part, place, thread).attend(values, states, sm_scale)
    with (
        T.thread_binding(0, batch * shape.heads, thread="blockIdx.x") as row,
        T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
    ):
        _join(shape, sequences, values, states, output, lse, row, thread)


class _Part:
    """A part of a context, and some query heads."""

    def __init__(
        self,
        shape: _Shape,
        sequences: _Sequences,
        q: tirx.Buffer,
        pages: tirx.Buffer,
        part: tirx.Var,
        place: tirx.Var,
        thread: tirx.Var,
    ) -> None:
        self.shape, self.sequences, self.q, self.pages = shape, sequences, q, pages
        self.part, self.thread = part, thread
        self.kv_head = T.bind(place // shape.workgroups)
        self.first_query = T.bind(place % shape.workgroups * shape.queries)
        self.sequence = sequences.of_part(part)
        since = (part - sequences.first_part(self.sequence)) * PART_PAGES
        begin, end = (sequences.page_indptr[self.sequence + offset] for offset in (0, 1))
        self.first_page = T.bind(begin + since)
        length = (end - self.first_page - 1) * PAGE + sequences.last_length[self.sequence]
        # Of a number that no sequence has a part for: nothing.
        self.length = T.bind(T.max(0, T.min(PART, length)))
        self.scores = _shared(shape.queries * PART)

    def attend(self, values: tirx.Buffer, states: tirx.Buffer, sm_scale: tirx.Expr) -> None:
        self._score(sm_scale * T.float32(LOG2_E))
        self._raise_to_powers(states)
        self._weigh(values)

    def _head(self, query: tirx.Expr | int) -> tirx.Expr:
        inside = T.min(self.first_query + query, self.shape.group - 1)
        return self.kv_head * self.shape.group + inside

    def _score(self, scale: tirx.Expr) -> None:
        """Scores of all keys, a lane for a key."""
        shape, thread = self.shape, self.thread
        # A word more than features: lanes that read down a column take different banks.
        keys = _shared(THREADS * (FEATURES + 1))
        queries = _shared(shape.queries * FEATURES)
        sums = _local((shape.queries,))
        with T.serial(0, PART // THREADS) as tile:
            first_key = T.bind(tile * THREADS)
            with T.unroll(0, shape.queries) as query:
                T.buffer_store(sums, T.float32(0), [query])
            with T.serial(0, -(-shape.width // FEATURES)) as turn:
                first_feature = T.bind(turn * FEATURES)
                self._fetch_queries(queries, first_feature)
                self._fetch_keys(keys, first_key, first_feature)
                _barrier()
                with T.serial(0, FEATURES // AHEAD) as step, T.unroll(0, AHEAD) as index:
                    feature = T.bind(step * AHEAD + index)
                    key = T.bind(keys[thread * (FEATURES + 1) + feature])
                    with T.unroll(0, shape.queries) as query:
                        product = key * queries[query * FEATURES + feature]
                        T.buffer_store(sums, sums[query] + product, [query])
                _barrier()
            is_there = first_key + thread < self.length
            with T.unroll(0, shape.queries) as query:
                score = T.Select(is_there, sums[query] * scale, T.float32(MASKED))
                T.buffer_store(self.scores, score, [query * PART + first_key + thread])
        _barrier()

    def _fetch_queries(self, queries: tirx.Buffer, first_feature: tirx.Expr) -> None:
        """Features past the last one are 0."""
        count, width = self.shape.queries * FEATURES, self.shape.width
        with T.unroll(0, -(-count // THREADS)) as turn:
            at = T.bind(turn * THREADS + self.thread)
            with T.If(at < count), T.Then():
                feature = T.bind(first_feature + at % FEATURES)
                inside = T.min(feature, width - 1)
                value = self.q[self.sequence, self._head(at // FEATURES), inside]
                value = T.Select(feature < width, T.Cast("float32", value), T.float32(0))
                T.buffer_store(queries, value, [at])

    def _fetch_keys(
        self, keys: tirx.Buffer, first_key: tirx.Expr, first_feature: tirx.Expr
    ) -> None:
        """Past the part's end these are keys of others, or nothing that anyone wrote."""
        lane = T.bind(self.thread % FEATURES)
        feature = T.bind(T.min(first_feature + lane, self.shape.width - 1))
        with T.serial(0, THREADS // PAGE) as index:
            page = T.bind(self.sequences.page(self.first_page + first_key // PAGE + index))
            with T.unroll(0, PAGE * FEATURES // THREADS) as turn:
                slot = T.bind(turn * (THREADS // FEATURES) + self.thread // FEATURES)
                value = T.Cast("float32", self.pages[page, 0, self.kv_head, slot, feature])
                T.buffer_store(keys, value, [(index * PAGE + slot) * (FEATURES + 1) + lane])

    def _raise_to_powers(self, states: tirx.Buffer) -> None:
        """Scores become powers of two relative to the largest; a team of lanes for a query head."""
        lanes = THREADS
        while lanes * self.shape.queries > THREADS:
            lanes //= 2
        team, lane = T.bind(self.thread // lanes), T.bind(self.thread % lanes)
        # Teams without a query head do what the last one does, and keep it to themselves.
        query = T.bind(T.min(team, self.shape.queries - 1))
        is_used = team < self.shape.queries
        highest, total = _local((1,)), _local((1,))
        maxima, sums = _shared(THREADS), _shared(THREADS)
        places = [query * PART + turn * lanes + lane for turn in range(PART // lanes)]
        T.buffer_store(highest, self.scores[places[0]], [0])
        for place in places[1:]:
            T.buffer_store(highest, T.max(highest[0], self.scores[place]), [0])
        T.buffer_store(maxima, highest[0], [self.thread])
        _barrier()
        with T.unroll(0, lanes) as other:
            T.buffer_store(highest, T.max(highest[0], maxima[self.thread - lane + other]), [0])
        T.buffer_store(total, T.float32(0), [0])
        powers = _local((PART // lanes,))
        for turn, place in enumerate(places):
            T.buffer_store(powers, T.exp2(self.scores[place] - highest[0]), [turn])
            T.buffer_store(total, total[0] + powers[turn], [0])
        T.buffer_store(sums, total[0], [self.thread])
        _barrier()
        with T.If(is_used), T.Then():
            for turn, place in enumerate(places):
                T.buffer_store(self.scores, powers[turn], [place])
        is_ours = self.first_query + query < self.shape.group
        with T.If(tirx.all(is_used, lane == 0, is_ours)), T.Then():
            T.buffer_store(total, T.float32(0), [0])
            with T.unroll(0, lanes) as other:
                T.buffer_store(total, total[0] + sums[self.thread + other], [0])
            head = T.bind(self._head(query))
            T.buffer_store(states, highest[0], [self.part, head, 0])
            T.buffer_store(states, total[0], [self.part, head, 1])
        _barrier()

    def _weigh(self, values: tirx.Buffer) -> None:
        """Values times powers, a lane for a feature or more."""
        shape = self.shape
        features = [self.thread + index * THREADS for index in range(shape.features)]
        sums = _local((shape.queries * shape.features,))
        value = _local((AHEAD * shape.features,))
        with T.unroll(0, shape.queries * shape.features) as index:
            T.buffer_store(sums, T.float32(0), [index])
        with T.serial(0, (self.length + (AHEAD - 1)) // AHEAD) as turn:
            page = T.bind(self.sequences.page(self.first_page + turn * AHEAD // PAGE))
            for index in range(AHEAD):
                # Past the end it is the last one again, whose power is 0.
                slot = T.bind(T.min(turn * AHEAD + index, self.length - 1) % PAGE)
                for which, feature in enumerate(features):
                    inside = T.min(feature, shape.width - 1)
                    read = T.Cast("float32", self.pages[page, 1, self.kv_head, slot, inside])
                    T.buffer_store(value, read, [index * shape.features + which])
            for index in range(AHEAD):
                for query in range(shape.queries):
                    power = T.bind(self.scores[query * PART + turn * AHEAD + index])
                    for which in range(shape.features):
                        place = query * shape.features + which
                        product = power * value[index * shape.features + which]
                        T.buffer_store(sums, sums[place] + product, [place])
        for query in range(shape.queries):
            for which, feature in enumerate(features):
                is_ours = self.first_query + query < shape.group
                with T.If(tirx.all(is_ours, feature < shape.width)), T.Then():
                    weighed = sums[query * shape.features + which]
                    T.buffer_store(values, weighed, [self.part, self._head(query), feature])


def _join(
    shape: _Shape,
    sequences: _Sequences,
    values: tirx.Buffer,
    states: tirx.Buffer,
    output: tirx.Buffer,
    lse: tirx.Buffer,
    row: tirx.Var,
    thread: tirx.Var,
) -> None:
    """A head's attention to the parts of its sequence becomes one; `row` counts sequences' heads."""
    sequence, head = T.bind(row // shape.heads), T.bind(row % shape.heads)
    first = T.bind(sequences.first_part(sequence))
    count = T.bind(sequences.parts(sequence))
    highest, total = _local((1,)), _local((1,))
    sums = _local((shape.features,))
    T.buffer_store(highest, T.float32(MASKED), [0])
    with T.serial(0, count) as part:
        T.buffer_store(highest, T.max(highest[0], states[first + part, head, 0]), [0])
    T.buffer_store(total, T.float32(0), [0])
    with T.unroll(0, shape.features) as index:
        T.buffer_store(sums, T.float32(0), [index])
    with T.serial(0, count) as part:
        weight = _local((1,))
        T.buffer_store(weight, T.exp2(states[first + part, head, 0] - highest[0]), [0])
        T.buffer_store(total, total[0] + weight[0] * states[first + part, head, 1], [0])
        with T.unroll(0, shape.features) as index:
            inside = T.min(index * THREADS + thread, shape.width - 1)
            value = weight[0] * values[first + part, head, inside]
            T.buffer_store(sums, sums[index] + value, [index])
    is_there = count > 0
    with T.unroll(0, shape.features) as index:
        feature = T.bind(index * THREADS + thread)
        with T.If(feature < shape.width), T.Then():
            value = T.if_then_else(is_there, sums[index] / total[0], T.float32(0))
            T.buffer_store(output, T.Cast(output.dtype, value), [sequence, head, feature])
    with T.If(thread == 0), T.Then():
        value = T.if_then_else(is_there, highest[0] + T.log2(total[0]), T.float32(LOWEST))
        T.buffer_store(lse, value, [sequence, head])


def _local(shape: tuple[int, ...], dtype: str = "float32") -> tirx.Buffer:
    return T.alloc_buffer(shape, dtype, scope="local")


def _shared(count: int) -> tirx.Buffer:
    return T.alloc_buffer((count,), "float32", scope="shared")


def _barrier() -> None:
    T.evaluate(T.tvm_storage_sync("shared"))
