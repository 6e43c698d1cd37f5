"""Linear layers and embeddings over float or group-quantised weights, as tensor expressions for any device.

Quantised weights are those of webbuild.quantization.formats, in MLC's order: levels in uint32 words, lowest
bits first, a scale (and a minimum) for every 32 of them along the input dimension.
"""

from collections.abc import Sequence

from tvm import te, tirx
from tvm.relax.frontend.nn import Tensor, op

from webbuild.kernels.interface import StoredParameter
from webbuild.quantization.formats import GROUP, TensorFormat

# relax's OpPatternKind: element-wise consumers, such as a residual add, may join the kernel.
OUT_ELEMENTWISE_FUSABLE = 4


def stored_parameters(
    rows: int, columns: int, format: TensorFormat, *, dtype: str, scale_dtype: str
) -> list[StoredParameter]:
    """What a weight [rows, columns] is stored as; `scale_dtype` is that of scales and minimums."""
    if not format.bits:
        return [StoredParameter("weight", (rows, columns), dtype)]
    groups = -(-columns // GROUP)
    floats = ["q_scale", "q_minimum"] if format.has_minimums else ["q_scale"]
    return [
        StoredParameter("q_weight", (rows, groups * format.words_per_group), "uint32"),
        *(StoredParameter(name, (rows, groups), scale_dtype) for name in floats),
    ]


def dequantize(
    weight: Sequence[te.Tensor | tirx.Buffer], row: tirx.Expr, k: tirx.Expr, format: TensorFormat
) -> tirx.Expr:
    """The value at [row, k], float32."""
    words, *floats = weight
    per_word = format.levels_per_word
    shift = tirx.Cast("uint32", (k % per_word) * format.bits)
    level = (words[row, k // per_word] >> shift) & tirx.const((1 << format.bits) - 1, "uint32")
    centred = tirx.Cast("float32", tirx.Cast("int32", level) - format.zero_point)
    scale, *minimum = (tirx.Cast("float32", tensor[row, k // GROUP]) for tensor in floats)
    return centred * scale + minimum[0] if minimum else centred * scale


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


def grouped_linear(
    x: Tensor, weight: Sequence[Tensor], format: TensorFormat, out_dtype: str
) -> Tensor:
    """x [..., K] to [..., N]; `weight` is words uint32 [N, W], scales [N, G] and, if any, minimums."""

    def compute(x: te.Tensor, *weight: te.Tensor) -> te.Tensor:
        dequantized = te.compute(
            (weight[0].shape[0], x.shape[-1]),
            lambda n, k: dequantize(weight, n, k, format),
            name="dequantize",
        )
        return _matmul(x, dequantized, out_dtype)

    attrs = {"op_pattern": OUT_ELEMENTWISE_FUSABLE}
    return op.tensor_expr_op(compute, f"{format.name}_linear", [x, *weight], attrs=attrs)


def grouped_take(
    weight: Sequence[Tensor], ids: Tensor, width: int, format: TensorFormat, out_dtype: str
) -> Tensor:
    """Rows `ids` int32 [n] of a quantised table with `width` columns, [n, width]."""

    def compute(ids: te.Tensor, *weight: te.Tensor) -> te.Tensor:
        return te.compute(
            (ids.shape[0], width),
            lambda i, k: tirx.Cast(out_dtype, dequantize(weight, ids[i], k, format)),
            name=f"{format.name}_take",
        )

    return op.tensor_expr_op(compute, f"{format.name}_take", [ids, *weight])


def take_rows(table: Tensor, ids: Tensor, axis: int = 0) -> Tensor:
    """Rows `ids` int32 [n] of `table` along `axis`, which is 0 ([V, K]) or 1 ([1, m, K])."""

    def compute(table: te.Tensor, ids: te.Tensor) -> te.Tensor:
        shape = [*table.shape]
        shape[axis] = ids.shape[0]
        return te.compute(
            shape, lambda *i: table[(*i[:axis], ids[i[axis]], *i[axis + 1 :])], name="take_rows"
        )

    return op.tensor_expr_op(compute, "take_rows", [table, ids])
