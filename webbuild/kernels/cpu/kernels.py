"""What a CPU computes with: vectors, and dot products of int8 where weights are quantised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.relax.frontend.nn import Tensor
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels

from webbuild.kernels.cpu.attention import paged_decode, paged_prefill, ragged_prefill
from webbuild.kernels.cpu.elementwise import gated_silu, rms_norm
from webbuild.kernels.cpu.grouped import block_bytes, blocks_of, groups_of
from webbuild.kernels.cpu.grouped import grouped_linear as interleaved_linear
from webbuild.kernels.cpu.grouped import grouped_take as interleaved_take
from webbuild.kernels.cpu.program import LANES
from webbuild.kernels.cpu.rotary import split_rotary
from webbuild.kernels.cpu.sorting import argsort_descending
from webbuild.kernels.direct import DirectReduction
from webbuild.kernels.heads import HeadShape
from webbuild.kernels.interface import (
    PAGE_TOKENS,
    AttentionPrograms,
    Kernels,
    KVCacheShape,
    PagePrograms,
    StoredParameter,
)
from webbuild.kernels.plain import (
    grouped_linear,
    grouped_take,
    linear,
    stored_parameters,
    take_rows,
)
from webbuild.quantization.formats import BLOCK_ROWS, TensorFormat

# Rotary halves of a head are whole vectors.
HEAD_DIM_STEP = 2 * LANES


@dataclass(frozen=True)
class CpuKernels(Kernels):
    """Weights are interleaved for `dot_product`, instructions of webbuild.kernels.cpu.dot_products.

    Without them quantised weights are in MLC's order, with scales of `scale_dtype`, and computed in floats.
    """

    scale_dtype: str
    dot_product: str | None
    dtype: str = "float32"

    def stored_as(self, rows: int, columns: int, format: TensorFormat) -> list[StoredParameter]:
        if not (format.bits and self.dot_product):
            return stored_parameters(
                rows, columns, format, dtype=self.dtype, scale_dtype=self.scale_dtype
            )
        blocks, groups = blocks_of(rows), groups_of(columns)
        floats = ["q_scale", "q_minimum"] if format.has_minimums else ["q_scale"]
        return [
            StoredParameter("q_weight", (blocks, groups, block_bytes(format)), "uint8"),
            *(
                StoredParameter(name, (blocks, groups, BLOCK_ROWS), self.scale_dtype)
                for name in floats
            ),
        ]

    def layout(self, format: TensorFormat) -> str:
        if not format.bits:
            return "plain"
        return f"{format.name}_interleaved" if self.dot_product else format.name

    def linear(
        self, x: Tensor, weight: Sequence[Tensor], rows: int, format: TensorFormat, out_dtype: str
    ) -> Tensor:
        if not format.bits:
            return linear(x, weight[0], out_dtype)
        if self.dot_product:
            return interleaved_linear(x, list(weight), rows, format, self.dot_product)
        return grouped_linear(x, weight, format, out_dtype)

    def take(
        self, weight: Sequence[Tensor], ids: Tensor, columns: int, format: TensorFormat
    ) -> Tensor:
        if not format.bits:
            return take_rows(weight[0], ids)
        if self.dot_product:
            return interleaved_take(list(weight), ids, columns, format)
        return grouped_take(weight, ids, columns, format, self.dtype)

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return rms_norm(x, weight, epsilon)

    def gated_silu(self, gate_up: Tensor) -> Tensor:
        return gated_silu(gate_up)

    def argsort_descending(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return argsort_descending(values)

    def attention(self, shape: KVCacheShape) -> AttentionPrograms:
        heads, kv_heads, width = shape.query_heads, shape.kv_heads, shape.head_dim
        dtype, scaling = shape.dtype, shape.rope_scaling
        merge = tvm_kernels._merge_state_inplace_cpu(dtype)
        if suits_vectors(shape):
            vectors = HeadShape(heads, kv_heads, width)
            programs = (ragged_prefill(vectors), paged_prefill(vectors), paged_decode(vectors))
            return AttentionPrograms(*programs, merge)
        return AttentionPrograms(
            tvm_kernels._attention_prefill_ragged_cpu(
                kv_heads, heads, width, width, dtype, scaling
            ),
            tvm_kernels._attention_prefill_cpu(kv_heads, heads, width, dtype, False, scaling),
            tvm_kernels._attention_decode_cpu(kv_heads, heads, width, dtype, False, scaling),
            merge,
        )

    def rotary(self, shape: KVCacheShape) -> tirx.PrimFunc:
        if suits_vectors(shape):
            vectors = HeadShape(shape.query_heads, shape.kv_heads, shape.head_dim)
            return split_rotary(vectors, shape.rope_theta, shape.rope_scaling)
        return super().rotary(shape)

    def pages(self, shape: KVCacheShape) -> PagePrograms:
        kv_heads, width, dtype = shape.kv_heads, shape.head_dim, shape.dtype
        return PagePrograms(
            tvm_kernels._copy_single_page_cpu(kv_heads, PAGE_TOKENS, width, dtype),
            tvm_kernels._compact_kv_copy_cpu(kv_heads, width, dtype),
        )

    def schedule_rules(self) -> list[Any]:
        # There is no other schedule: without one, a product of many rows takes thirty times as long.
        return [DirectReduction()]

    @property
    def is_coarse(self) -> bool:
        # Activations are rounded to int8.
        return self.dot_product is not None


def suits_vectors(shape: KVCacheShape) -> bool:
    """Whether vectors take heads of this shape."""
    return shape.head_dim % HEAD_DIM_STEP == 0
