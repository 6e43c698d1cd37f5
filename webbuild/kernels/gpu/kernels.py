"""What a GPU computes with, by the class of its device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm import _kernel_common as tvm_tiles
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.s_tir import dlight
from tvm.target import Target

from webbuild.kernels.direct import DirectReduction
from webbuild.kernels.gpu.attention import paged_prefill, ragged_prefill
from webbuild.kernels.gpu.attention_decode import merge_states, paged_decode
from webbuild.kernels.gpu.attention_split import parts_bytes, split_decode
from webbuild.kernels.gpu.drawing import draw
from webbuild.kernels.gpu.matmul import matmul
from webbuild.kernels.gpu.matvec import MatVec, is_step, matvec, suits
from webbuild.kernels.gpu.pieces import pieces_of, take_of_pieces
from webbuild.kernels.gpu.sorting import argsort_descending
from webbuild.kernels.interface import (
    PAGE_TOKENS,
    AttentionPrograms,
    Kernels,
    KVCacheShape,
    PagePrograms,
    StoredParameter,
    Surroundings,
)
from webbuild.kernels.plain import (
    grouped_linear,
    grouped_take,
    linear,
    stored_parameters,
    take_rows,
)
from webbuild.quantization.formats import TensorFormat

# Browsers copy four bytes at a time, whatever the type of a row's numbers.
ALIGNED_ROWS = 8


@dataclass(frozen=True)
class GpuKernels(Kernels):
    """`barriers` says whether threads of a workgroup share work; scales are of type `dtype`, as values are.

    Where a CPU stands in for the GPU, waiting for each other costs threads more than sharing saves them.
    `max_binding_bytes` is how much of a weight with the rows of a vocabulary a kernel binds.
    """

    dtype: str
    barriers: bool
    max_binding_bytes: int | None = None

    def stored_as(self, rows: int, columns: int, format: TensorFormat) -> list[StoredParameter]:
        return stored_parameters(rows, columns, format, dtype=self.dtype, scale_dtype=self.dtype)

    def stored_in_pieces(
        self, rows: int, columns: int, format: TensorFormat
    ) -> list[StoredParameter]:
        whole = self.stored_as(rows, columns, format)
        row_bytes = max(map(_bytes_of, whole)) // rows
        if self.max_binding_bytes is None or rows * row_bytes <= self.max_binding_bytes:
            return whole
        most = self.max_binding_bytes // row_bytes // ALIGNED_ROWS * ALIGNED_ROWS
        count = -(-rows // most)
        each = -(-rows // (count * ALIGNED_ROWS)) * ALIGNED_ROWS
        return [
            part._replace(first_row=first)
            for first in range(0, rows, each)
            for part in self.stored_as(min(each, rows - first), columns, format)
        ]

    def layout(self, format: TensorFormat) -> str:
        return format.name if format.bits else "plain"

    def linear(
        self, x: Tensor, weight: Sequence[Tensor], rows: int, format: TensorFormat, out_dtype: str
    ) -> Tensor:
        if self.fuses(int(x.shape[-1]), format):
            pieces = tuple(int(words.shape[0]) for words, *_ in pieces_of(weight, format))
            task = self._task(x, rows, format, out_dtype=out_dtype, pieces=pieces)
            return matvec(x, weight, task) if is_step(x) else matmul(x, weight, task)
        results = [
            grouped_linear(x, piece, format, out_dtype)
            if format.bits
            else linear(x, piece[0], out_dtype)
            for piece in pieces_of(weight, format)
        ]
        return op.concat(results, dim=-1) if len(results) > 1 else results[0]

    def _task(self, x: Tensor, rows: int, format: TensorFormat, **how: Any) -> MatVec:
        columns = int(x.shape[-1])
        return MatVec(rows=rows, columns=columns, format=format, dtype=self.dtype, **how)

    def fuses(self, columns: int, format: TensorFormat) -> bool:
        return self.barriers and suits(columns, format)

    def fused_linear(
        self,
        x: Tensor,
        weight: Sequence[Tensor],
        rows: int,
        format: TensorFormat,
        around: Surroundings,
    ) -> Tensor:
        if not self.fuses(int(x.shape[-1]), format):
            return super().fused_linear(x, weight, rows, format, around)
        norm, gated, residual = around
        how = {"out_dtype": self.dtype, "gated": gated, "residual": residual is not None}
        task = self._task(x, rows, format, **how)
        if not is_step(x):
            if norm is not None:
                x = self.rms_norm(x, norm.weight, norm.epsilon)
            return matmul(x, weight, task, residual=residual)
        task = replace(task, epsilon=norm and norm.epsilon)
        return matvec(x, weight, task, norm_weight=norm and norm.weight, residual=residual)

    def take(
        self, weight: Sequence[Tensor], ids: Tensor, columns: int, format: TensorFormat
    ) -> Tensor:
        if len(pieces_of(weight, format)) > 1:
            return take_of_pieces(weight, ids, columns, format, self.dtype)
        if not format.bits:
            return take_rows(weight[0], ids)
        return grouped_take(weight, ids, columns, format, self.dtype)

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return op.rms_norm(x, weight, axes=[-1], epsilon=epsilon)

    def gated_silu(self, gate_up: Tensor) -> Tensor:
        gate, up = op.split(gate_up, 2, axis=-1)
        return op.silu(gate) * up

    def argsort_descending(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return argsort_descending(values)

    @property
    def draws(self) -> bool:
        return self.barriers

    def draw(self, logits: Tensor, settings: Tensor) -> Tensor:
        return draw(logits, settings)

    def attention(self, shape: KVCacheShape) -> AttentionPrograms:
        heads, kv_heads, width = shape.query_heads, shape.kv_heads, shape.head_dim
        dtype, scaling, target = shape.dtype, shape.rope_scaling, Target.current()
        alone = (heads, kv_heads, width, dtype)
        merge = merge_states(heads, width, dtype)
        decode = split_decode(*alone) if self.barriers else paged_decode(*alone)
        if not (self.barriers and suits_tiles(shape, target)):
            return AttentionPrograms(ragged_prefill(*alone), paged_prefill(*alone), decode, merge)
        fitting = _fitting_prefill(target)
        ragged = tvm_kernels._attention_prefill_ragged(
            kv_heads, heads, width, width, dtype, scaling, fitting
        )
        paged = tvm_kernels._attention_prefill(
            kv_heads, heads, width, dtype, False, scaling, fitting
        )
        return AttentionPrograms(_without_rotary(ragged), _without_rotary(paged), decode, merge)

    def attention_workspace(self, shape: KVCacheShape, *, tokens: int, sequences: int) -> int:
        if self.barriers:
            return parts_bytes(shape.query_heads, shape.head_dim, tokens, sequences)
        # The scores of paged_decode.
        return 4 * shape.query_heads * tokens

    def pages(self, shape: KVCacheShape) -> PagePrograms:
        kv_heads, width, dtype = shape.kv_heads, shape.head_dim, shape.dtype
        target = Target.current()
        return PagePrograms(
            tvm_kernels._copy_single_page(kv_heads, PAGE_TOKENS, width, dtype, target),
            tvm_kernels._compact_kv_copy(kv_heads, width, dtype, target),
        )

    def schedule_rules(self) -> list[Any]:
        gpu = dlight.gpu
        return [
            *([] if self.barriers else [DirectReduction()]),
            _Matmul(),
            gpu.GEMV(),
            gpu.Reduction(),
            gpu.GeneralReduction(),
            gpu.Fallback(),
        ]

    @property
    def narrows_indices(self) -> bool:
        return True


def _bytes_of(parameter: StoredParameter) -> int:
    return math.prod(parameter.shape) * np.dtype(parameter.dtype).itemsize


class _Matmul(dlight.gpu.Matmul):
    """dlight's tiles without tensor cores, for which TVM 0.27 crashes on products with sums of float32."""

    def apply(self, func: tirx.PrimFunc, target: Target, tunable: bool) -> Any:
        if isinstance(func, tirx.PrimFunc):
            func = func.with_attr("dlight.do_not_tensorize", True)
        return super().apply(func, target, tunable)


def suits_tiles(shape: KVCacheShape, target: Target) -> bool:
    """Whether TVM has tiles for prompts of heads of this shape, in memory that a workgroup has."""
    try:
        tvm_tiles._get_prefill_kernel_config(
            shape.kv_heads, shape.query_heads, shape.head_dim, shape.dtype, _fitting_prefill(target)
        )
    except ValueError:
        return False
    return True


def _fitting_prefill(target: Target) -> Target:
    """For whom TVM takes the largest tiles that a workgroup of `target` has the memory for.

    It looks for them for Metal alone; nothing else of these programs depends on it.
    """
    names = ("max_num_threads", "max_shared_memory_per_block")
    return Target({"kind": "metal", **{name: int(target.attrs[name]) for name in names}})


def _without_rotary(program: tirx.PrimFunc) -> tirx.PrimFunc:
    """A program of TVM's for keys that are rotated already.

    Without the positions that it would rotate by, it binds 8 buffers, which every WebGPU device offers.
    """
    place = next(i for i, each in enumerate(program.params) if each.name == "rotary_mode")
    mode = program.params[place]
    fixed = program.specialize({mode: tirx.const(0, "int32")})
    parameters = [*fixed.params[:place], mode, *fixed.params[place:]]
    return tirx.PrimFunc(parameters, fixed.body, fixed.ret_type, attrs=fixed.attrs)
