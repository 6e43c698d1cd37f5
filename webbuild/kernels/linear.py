"""Linear layers and embeddings over plain or group-quantised weights, as tensor expressions.

Group quantisation as in MLC's q4 formats: 8 values of 4 bits to a uint32, lowest bits first, a scale
for every 32 values along the input dimension, value = (u - 7) * scale.
"""

from tvm import te, tirx
from tvm.relax.frontend.nn import Tensor, op

GROUP = 32
VALUES_PER_WORD = 8
ZERO_POINT = 7
# relax's OpPatternKind: element-wise consumers, such as a residual add, may join the kernel.
OUT_ELEMENTWISE_FUSABLE = 4


def _dequantize(words: te.Tensor, scales: te.Tensor, row: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
    shift = tirx.Cast("uint32", (k % VALUES_PER_WORD) * 4)
    value = (words[row, k // VALUES_PER_WORD] >> shift) & tirx.const(15, "uint32")
    centred = tirx.Cast("float32", tirx.Cast("int32", value) - ZERO_POINT)
    return centred * tirx.Cast("float32", scales[row, k // GROUP])


def _matmul(x: te.Tensor, weight: te.Tensor, out_dtype: str) -> te.Tensor:
    """x [..., K] times weight [N, K] transposed, summed in float32."""
    *lead, depth = x.shape
    k = te.reduce_axis((0, depth), name="k")
    total = te.compute(
        (*lead, weight.shape[0]),
        lambda *i: te.sum(
            tirx.Cast("float32", x[(*i[:-1], k)]) * tirx.Cast("float32", weight[i[-1], k]), axis=k
        ),
        name="matmul",
    )
    if out_dtype == "float32":
        return total
    return te.compute(total.shape, lambda *i: tirx.Cast(out_dtype, total(*i)), name="narrow")


def linear(x: Tensor, weight: Tensor, out_dtype: str) -> Tensor:
    """x [..., K] and weight [N, K] to [..., N]."""
    return op.tensor_expr_op(
        lambda x, weight: _matmul(x, weight, out_dtype),
        "linear",
        [x, weight],
        attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE},
    )


def q4_linear(x: Tensor, words: Tensor, scales: Tensor, out_dtype: str) -> Tensor:
    """x [..., K], words uint32 [N, ceil(K/32)*4] and scales [N, ceil(K/32)] to [..., N]."""

    def compute(x: te.Tensor, words: te.Tensor, scales: te.Tensor) -> te.Tensor:
        weight = te.compute(
            (words.shape[0], x.shape[-1]),
            lambda n, k: _dequantize(words, scales, n, k),
            name="dequantize",
        )
        return _matmul(x, weight, out_dtype)

    attrs = {"op_pattern": OUT_ELEMENTWISE_FUSABLE}
    return op.tensor_expr_op(compute, "q4_linear", [x, words, scales], attrs=attrs)


def q4_take(words: Tensor, scales: Tensor, ids: Tensor, width: int, out_dtype: str) -> Tensor:
    """Rows `ids` int32 [n] of a quantised table with `width` columns, [n, width]."""

    def compute(words: te.Tensor, scales: te.Tensor, ids: te.Tensor) -> te.Tensor:
        return te.compute(
            (ids.shape[0], width),
            lambda i, k: tirx.Cast(out_dtype, _dequantize(words, scales, ids[i], k)),
            name="q4_take",
        )

    return op.tensor_expr_op(compute, "q4_take", [words, scales, ids])


def take_rows(table: Tensor, ids: Tensor, axis: int = 0) -> Tensor:
    """Rows `ids` int32 [n] of `table` along `axis`, which is 0 ([V, K]) or 1 ([1, m, K])."""

    def compute(table: te.Tensor, ids: te.Tensor) -> te.Tensor:
        shape = [*table.shape]
        shape[axis] = ids.shape[0]
        return te.compute(
            shape, lambda *i: table[(*i[:axis], ids[i[axis]], *i[axis + 1 :])], name="take_rows"
        )

    return op.tensor_expr_op(compute, "take_rows", [table, ids])
