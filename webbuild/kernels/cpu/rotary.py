"""Rotary embedding on CPUs (https://arxiv.org/abs/2104.09864), for TVM's paged KV cache."""

from typing import Any

from tvm import tirx
from tvm.relax.frontend.nn.llm.position_embedding import switch_rope_freq_func
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.cpu.program import LANES, keep, load, local_buffer, over_rows, store
from webbuild.kernels.heads import HeadShape, offset_argument
from webbuild.kernels.program import argument, build, size


def split_rotary(shape: HeadShape, theta: float, scaling: dict[str, Any]) -> tirx.PrimFunc:
    """Fused [n, heads, width] to queries, keys and values, the former two rotated by their positions.

    Sines and cosines are computed once for all heads of a token.
    """
    half = shape.width // 2
    frequencies = switch_rope_freq_func(scaling)

    def body() -> None:
        tokens = size("tokens", "int32")
        fused = shape.heads + 2 * shape.kv_heads
        qkv = argument("qkv", (tokens, fused, shape.width), "float32")
        positions = offset_argument("positions", tokens)
        q = argument("q", (tokens, shape.heads, shape.width), "float32")
        k = argument("k", (tokens, shape.kv_heads, shape.width), "float32")
        v = argument("v", (tokens, shape.kv_heads, shape.width), "float32")
        apply_rope = T.arg("apply_rope", T.int64())

        def split(token: tirx.Var) -> None:
            cos = local_buffer((half,))
            sin = local_buffer((half,))
            position = keep(
                T.if_then_else(apply_rope > 0, positions[token], T.int32(0)), "int32", lanes=1
            )
            with T.serial(0, half) as i:
                cosine, sine, names = frequencies(position, i, shape.width, theta, "float32")
                for buffer, value in ((cos, cosine), (sin, sine)):
                    for name, meaning in names.items():
                        value = tirx.Let(name, meaning, value)
                    T.buffer_store(buffer, value, [i])
            for target, heads, skipped in (
                (q, shape.heads, 0),
                (k, shape.kv_heads, shape.heads),
            ):
                with T.serial(0, heads) as head, T.serial(0, half // LANES) as n:
                    first = keep(load(qkv, token, skipped + head, n * LANES))
                    second = keep(load(qkv, token, skipped + head, half + n * LANES))
                    c, s = load(cos, n * LANES), load(sin, n * LANES)
                    store(target, first * c - second * s, token, head, n * LANES)
                    store(target, second * c + first * s, token, head, half + n * LANES)
            with T.serial(0, shape.kv_heads) as head, T.serial(0, shape.width // LANES) as n:
                value = load(qkv, token, shape.heads + shape.kv_heads + head, n * LANES)
                store(v, value, token, head, n * LANES)

        over_rows(tokens, split)

    return build("cpu_split_rotary", body)
