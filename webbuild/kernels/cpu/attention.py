"""Attention on CPUs, for TVM's paged KV cache.

Signatures are those of `vm.builtin.paged_attention_kv_cache_create`: pages are [pages, 2, kv heads, page
size, head dim], keys hold their rotary embedding already, scores and the log-sum-exp are in base 2.
Softmax is computed online (https://arxiv.org/abs/1805.02867). Prefill has 16 queries of a head in the lanes
of a vector, so that nothing is summed across lanes; decode has 16 features of one query there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.program import (
    LANES,
    LOG2_E,
    accumulator,
    exp2,
    fma,
    keep,
    largest_of,
    load,
    local_buffer,
    splat,
    store,
    total_of,
)
from webbuild.kernels.heads import HeadShape, offset_argument
from webbuild.kernels.program import argument, build, size

PAGE = 16
# Keys that are scored together against 16 queries.
KEYS = 8
LOWEST = -5e4


@dataclass(frozen=True)
class _Keys:
    """Where a sequence's keys and values are: `at(j)` gives what the two functions index with."""

    at: Callable[[tirx.Expr], tuple[tirx.Expr, ...]]
    key: Callable[[tuple[tirx.Expr, ...], tirx.Expr], tirx.Expr]
    value: Callable[[tuple[tirx.Expr, ...], tirx.Expr], tirx.Expr]


def _scalars(*names: str) -> dict[str, tirx.Var]:
    kinds = {"causal": T.int32, "rotary_mode": T.int32}
    return {name: T.arg(name, kinds.get(name, T.float32)()) for name in names}


def ragged_prefill(shape: HeadShape) -> tirx.PrimFunc:
    """New tokens attend to new tokens."""

    def body() -> None:
        batch, tokens, kv_tokens = (size(n, "int32") for n in ("batch", "tokens", "kv_tokens"))
        q = argument("q", (tokens, shape.heads, shape.width), "float32")
        q_indptr = offset_argument("q_indptr", batch + 1)
        k = argument("k", (kv_tokens, shape.kv_heads, shape.width), "float32")
        v = argument("v", (kv_tokens, shape.kv_heads, shape.width), "float32")
        kv_indptr = offset_argument("kv_indptr", batch + 1)
        offset_argument("q_position", tokens)
        offset_argument("k_offset", batch)
        output = argument("output", (tokens, shape.heads, shape.width), "float32")
        lse = argument("lse", (tokens, shape.heads), "float32")
        scalars = _scalars("causal", "rotary_mode", "rope_scale", "rope_theta", "sm_scale")

        def attend(head: tirx.Expr, sequence: tirx.Var, first: tirx.Expr, count: tirx.Expr) -> None:
            begin = keep(kv_indptr[sequence], "int32", lanes=1)
            length = keep(kv_indptr[sequence + 1] - begin, "int32", lanes=1)
            keys = _Keys(
                at=lambda j: (begin + j, head // shape.group),
                key=lambda at, d: k[at[0], at[1], d],
                value=lambda at, d: v[at[0], at[1], d],
            )
            visible = _visible(scalars["causal"], q_indptr, sequence, first, length)
            block = _QueryBlock(shape, q, output, lse, head, first, count)
            block.attend(keys, length, visible, scalars["sm_scale"])

        _for_query_blocks(shape, tokens, batch, q_indptr, attend)

    return build("cpu_prefill_ragged", body)


def paged_prefill(shape: HeadShape) -> tirx.PrimFunc:
    """New tokens attend to the pages of their sequence."""

    def body() -> None:
        batch, tokens, used, pool = (
            size(n, "int32") for n in ("batch", "tokens", "used_pages", "max_pages")
        )
        q = argument("q", (tokens, shape.heads, shape.width), "float32")
        q_indptr = offset_argument("q_indptr", batch + 1)
        pages = _pages_argument(shape, pool)
        page_indptr = offset_argument("page_indptr", batch + 1)
        page_values = offset_argument("page_values", used)
        last_length = offset_argument("last_length", batch)
        offset_argument("k_offset", batch)
        offset_argument("q_position", tokens)
        output = argument("output", (tokens, shape.heads, shape.width), "float32")
        lse = argument("lse", (tokens, shape.heads), "float32")
        scalars = _scalars("causal", "rotary_mode", "rope_scale", "rope_theta", "sm_scale")

        def attend(head: tirx.Expr, sequence: tirx.Var, first: tirx.Expr, count: tirx.Expr) -> None:
            begin = keep(page_indptr[sequence], "int32", lanes=1)
            length = _paged_length(page_indptr, last_length, sequence)
            keys = _paged_keys(pages, page_values, begin, head // shape.group)
            visible = _visible(scalars["causal"], q_indptr, sequence, first, length)
            block = _QueryBlock(shape, q, output, lse, head, first, count)
            block.attend(keys, length, visible, scalars["sm_scale"])

        _for_query_blocks(shape, tokens, batch, q_indptr, attend)

    return build("cpu_prefill_paged", body)


def _pages_argument(shape: HeadShape, pool: tirx.Var) -> tirx.Buffer:
    dimensions = (pool, 2, shape.kv_heads, PAGE, shape.width)
    return argument("pages", dimensions, "float32", elem_offset=size("pages_offset"))


def _paged_length(
    page_indptr: tirx.Buffer, last_length: tirx.Buffer, sequence: tirx.Expr
) -> tirx.Expr:
    count = page_indptr[sequence + 1] - page_indptr[sequence]
    return keep(
        T.if_then_else(count > 0, (count - 1) * PAGE + last_length[sequence], T.int32(0)),
        "int32",
        lanes=1,
    )


def _paged_keys(
    pages: tirx.Buffer, page_values: tirx.Buffer, begin: tirx.Expr, kv_head: tirx.Expr
) -> _Keys:
    return _Keys(
        at=lambda j: (
            keep(page_values[begin + j // PAGE], "int32", lanes=1),
            kv_head,
            keep(j % PAGE, "int32", lanes=1),
        ),
        key=lambda at, d: pages[at[0], 0, at[1], at[2], d],
        value=lambda at, d: pages[at[0], 1, at[1], at[2], d],
    )


def _visible(
    causal: tirx.Var,
    q_indptr: tirx.Buffer,
    sequence: tirx.Var,
    first: tirx.Expr,
    length: tirx.Expr,
) -> tirx.Expr:
    """How many keys each of 16 queries from `first` on may see, int32 [16]."""
    queries = q_indptr[sequence + 1] - q_indptr[sequence]
    row = first - q_indptr[sequence]
    own = T.max(T.ramp(length - queries + row + 1, 1, LANES), T.broadcast(T.int32(0), LANES))
    everything = T.broadcast(length, LANES)
    mask = T.broadcast(causal > 0, LANES)
    return keep(T.Select(mask, T.min(own, everything), everything), "int32")


def _for_query_blocks(
    shape: HeadShape,
    tokens: tirx.Var,
    batch: tirx.Var,
    q_indptr: tirx.Buffer,
    attend: Callable[[tirx.Expr, tirx.Var, tirx.Expr, tirx.Expr], None],
) -> None:
    """`attend(head, sequence, first token, count)` for runs of up to 16 tokens of one sequence."""
    blocks = (tokens + (LANES - 1)) // LANES
    with T.parallel(0, blocks * shape.heads) as task, T.serial(0, batch) as sequence:
        block = task // shape.heads
        first = keep(T.max(block * LANES, q_indptr[sequence]), "int32", lanes=1)
        last = T.min(block * LANES + LANES, q_indptr[sequence + 1])
        count = keep(last - first, "int32", lanes=1)
        with T.If(count > 0), T.Then():
            attend(task % shape.heads, sequence, first, count)


class _QueryBlock:
    """Up to 16 queries of one head: features in rows, queries in lanes."""

    def __init__(
        self,
        shape: HeadShape,
        q: tirx.Buffer,
        output: tirx.Buffer,
        lse: tirx.Buffer,
        head: tirx.Expr,
        first: tirx.Expr,
        count: tirx.Expr,
    ) -> None:
        self.width = shape.width
        self.q, self.output, self.lse = q, output, lse
        self.head, self.first, self.count = head, first, count
        self.queries = local_buffer((self.width, LANES))
        self.totals = local_buffer((self.width, LANES))
        self.highest = accumulator(start=LOWEST)
        self.norm = accumulator()

    def attend(
        self, keys: _Keys, length: tirx.Expr, visible: tirx.Expr, sm_scale: tirx.Var
    ) -> None:
        """All keys that a query may see, then the outputs."""
        self._gather(sm_scale)
        longest = T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.smax", visible)
        seen = keep(T.min(longest, length), "int32", lanes=1)
        with T.serial(0, (seen + (KEYS - 1)) // KEYS) as chunk:
            self._attend_chunk(keys, chunk * KEYS, length, visible)
        self._scatter()

    def _gather(self, sm_scale: tirx.Var) -> None:
        with T.serial(0, self.width) as d:
            store(self.queries, splat(0.0), d, 0)
            store(self.totals, splat(0.0), d, 0)
        with T.serial(0, self.count) as lane, T.serial(0, self.width) as d:
            scaled = self.q[self.first + lane, self.head, d] * (sm_scale * T.float32(LOG2_E))
            T.buffer_store(self.queries, scaled, [d, lane])

    def _attend_chunk(
        self, keys: _Keys, first: tirx.Expr, length: tirx.Expr, visible: tirx.Expr
    ) -> None:
        # Keys past the end are read as the last one and then masked: memory there may hold anything.
        places = [
            keys.at(keep(T.min(first + n, length - 1), "int32", lanes=1)) for n in range(KEYS)
        ]
        scores = [accumulator() for _ in range(KEYS)]
        with T.serial(0, self.width) as d:
            query = keep(load(self.queries, d, 0))
            for score, place in zip(scores, places, strict=True):
                store(score, fma(query, splat(keys.key(place, d)), load(score, 0)), 0)
        masks = [splat(first + n) < visible for n in range(KEYS)]
        for score, mask in zip(scores, masks, strict=True):
            store(score, T.Select(mask, load(score, 0), splat(LOWEST)), 0)
        highest = load(self.highest, 0)
        for score in scores:
            highest = T.max(highest, load(score, 0))
        highest = keep(highest)
        remaining = exp2(load(self.highest, 0) - highest)
        store(self.highest, highest, 0)
        weights = [
            keep(T.Select(mask, exp2(load(score, 0) - highest), splat(0.0)))
            for score, mask in zip(scores, masks, strict=True)
        ]
        norm = load(self.norm, 0) * remaining
        for weight in weights:
            norm = norm + weight
        store(self.norm, norm, 0)
        with T.serial(0, self.width) as d:
            total = load(self.totals, d, 0) * remaining
            for weight, place in zip(weights, places, strict=True):
                total = fma(weight, splat(keys.value(place, d)), total)
            store(self.totals, total, d, 0)

    def _scatter(self) -> None:
        norm = load(self.norm, 0)
        store(self.norm, T.Select(norm > splat(0.0), norm, splat(1.0)), 0)
        inverse = keep(splat(1.0) / load(self.norm, 0))
        with T.serial(0, self.width) as d:
            store(self.totals, load(self.totals, d, 0) * inverse, d, 0)
        with T.serial(0, self.count) as lane:
            row = self.first + lane
            with T.serial(0, self.width) as d:
                T.buffer_store(self.output, self.totals[d, lane], [row, self.head, d])
            T.buffer_store(self.lse, self.highest[lane] + T.log2(self.norm[lane]), [row, self.head])


def paged_decode(shape: HeadShape) -> tirx.PrimFunc:
    """One new token a sequence, whose key and value are in the pages already."""

    def body() -> None:
        batch, used, pool = (size(n, "int32") for n in ("batch", "used_pages", "max_pages"))
        q = argument("q", (batch, shape.heads, shape.width), "float32")
        pages = _pages_argument(shape, pool)
        page_indptr = offset_argument("page_indptr", batch + 1)
        page_values = offset_argument("page_values", used)
        last_length = offset_argument("last_length", batch)
        offset_argument("k_offset", batch)
        offset_argument("q_position", batch)
        output = argument("output", (batch, shape.heads, shape.width), "float32")
        lse = argument("lse", (batch, shape.heads), "float32")
        scalars = _scalars("rotary_mode", "rope_scale", "rope_theta", "sm_scale")

        with T.parallel(0, batch * shape.heads) as task:
            sequence, head = task // shape.heads, task % shape.heads
            length = _paged_length(page_indptr, last_length, sequence)
            query = _Query(shape, q, sequence, head, scalars["sm_scale"])
            begin = keep(page_indptr[sequence], "int32", lanes=1)
            with T.serial(0, (length + (PAGE - 1)) // PAGE) as index:
                page = keep(page_values[begin + index], "int32", lanes=1)
                count = keep(T.min(length - index * PAGE, T.int32(PAGE)), "int32", lanes=1)
                query.attend(pages, page, head // shape.group, count)
            query.write(output, lse, sequence, head)

    return build("cpu_decode", body)


class _Query:
    """One query of one head: features in lanes, a page of keys at a time."""

    def __init__(
        self,
        shape: HeadShape,
        q: tirx.Buffer,
        sequence: tirx.Expr,
        head: tirx.Expr,
        sm_scale: tirx.Var,
    ) -> None:
        self.vectors = range(shape.width // LANES)
        scale = splat(keep(sm_scale * T.float32(LOG2_E), lanes=1))
        self.features = [keep(load(q, sequence, head, n * LANES) * scale) for n in self.vectors]
        self.totals = [accumulator() for _ in self.vectors]
        self.scores = accumulator()
        self.highest = accumulator(1, LOWEST)
        self.norm = accumulator(1)

    def attend(
        self, pages: tirx.Buffer, page: tirx.Expr, kv_head: tirx.Expr, count: tirx.Expr
    ) -> None:
        """The first `count` keys of a page."""
        store(self.scores, splat(LOWEST), 0)
        with T.serial(0, count) as t:
            products = splat(0.0)
            for n in self.vectors:
                products = fma(
                    self.features[n], load(pages, page, 0, kv_head, t, n * LANES), products
                )
            T.buffer_store(self.scores, total_of(products), [t])
        highest = keep(T.max(self.highest[0], largest_of(load(self.scores, 0))), lanes=1)
        remaining = keep(T.exp2(self.highest[0] - highest), lanes=1)
        T.buffer_store(self.highest, highest, [0])
        store(self.scores, exp2(load(self.scores, 0) - splat(highest)), 0)
        for total in self.totals:
            store(total, load(total, 0) * splat(remaining), 0)
        T.buffer_store(self.norm, self.norm[0] * remaining, [0])
        with T.serial(0, count) as t:
            weight = keep(self.scores[t], lanes=1)
            T.buffer_store(self.norm, self.norm[0] + weight, [0])
            for n, total in enumerate(self.totals):
                value = load(pages, page, 1, kv_head, t, n * LANES)
                store(total, fma(splat(weight), value, load(total, 0)), 0)

    def write(
        self, output: tirx.Buffer, lse: tirx.Buffer, sequence: tirx.Expr, head: tirx.Expr
    ) -> None:
        norm = keep(T.if_then_else(self.norm[0] > 0, self.norm[0], T.float32(1)), lanes=1)
        inverse = keep(T.float32(1) / norm, lanes=1)
        for n, total in enumerate(self.totals):
            store(output, load(total, 0) * splat(inverse), sequence, head, n * LANES)
        T.buffer_store(lse, self.highest[0] + T.log2(norm), [sequence, head])
