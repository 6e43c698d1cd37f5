"""What layers, caches and samplers ask of a device: operations; each kind of device has its kernels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm import tirx
from tvm.relax.frontend.nn import Tensor
from tvm.relax.frontend.nn.llm import kv_cache as tvm_kernels
from tvm.script import tirx as T

from webbuild.quantization.formats import TensorFormat

PAGE_TOKENS = 16
# Of a token that is drawn, all float32: how many tokens there are (other logits are nobody's), the number in
# [0, 1) that draws, 2 / temperature (0 for temperature 0), -20 * temperature, top_k (`count` for none), top_p
# (1 for none), min_p, and of how many of the first tokens scores are wanted.
DRAW_SETTINGS = ("count", "u", "scale", "cutoff", "top_k", "top_p", "min_p", "top")
# The most of those, as OpenAI's API has it.
MOST_TOP = 20
# Of what `draw` gives, before the first tokens.
DRAW_HEAD = 4


@dataclass(frozen=True, kw_only=True)
class KVCacheShape:
    """What a cache holds; `dtype` is the type of keys and values."""

    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    rope_scaling: dict[str, Any]
    dtype: str


class AttentionPrograms(NamedTuple):
    """New tokens to new tokens, new tokens to pages, one token to pages, and merging two results."""

    ragged: tirx.PrimFunc
    paged: tirx.PrimFunc
    decode: tirx.PrimFunc
    merge: tirx.PrimFunc


class PagePrograms(NamedTuple):
    """Copying a part of a page, and moving tokens together."""

    copy: tirx.PrimFunc
    compact: tirx.PrimFunc


class StoredParameter(NamedTuple):
    """A tensor that is part of a weight, or those of its rows that begin with `first_row`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    first_row: int | None = None


class Norm(NamedTuple):
    """A normalisation by the root mean square, times `weight` [width]."""

    weight: Tensor
    epsilon: float


class Surroundings(NamedTuple):
    """What a layer of a model has around a product: inputs are of `norm`, a `gated` one is gate and up."""

    norm: Norm | None = None
    gated: bool = False
    residual: Tensor | None = None


class Kernels(ABC):
    """Operations as one kind of device computes them, under TVM's current target.

    `dtype` is the float type of what lies between operations. A stored weight is the tensors of `stored_as`
    or `stored_in_pieces`, in that order.
    """

    dtype: str

    @abstractmethod
    def stored_as(self, rows: int, columns: int, format: TensorFormat) -> list[StoredParameter]:
        """What a weight [rows, columns] in `format` is stored as."""

    def stored_in_pieces(
        self, rows: int, columns: int, format: TensorFormat
    ) -> list[StoredParameter]:
        """Of a weight that may be larger than a buffer can be: `stored_as` of pieces, one after the other."""
        return self.stored_as(rows, columns, format)

    @abstractmethod
    def layout(self, format: TensorFormat) -> str:
        """The name of that form, as the self-test's readers know it."""

    @abstractmethod
    def linear(
        self, x: Tensor, weight: Sequence[Tensor], rows: int, format: TensorFormat, out_dtype: str
    ) -> Tensor:
        """x [..., columns] times the weight [rows, columns] transposed, [..., rows] of `out_dtype`."""

    def fuses(self, columns: int, format: TensorFormat) -> bool:
        """Whether `fused_linear` is one program: of prompts, what follows the norm."""
        return False

    def fused_linear(
        self,
        x: Tensor,
        weight: Sequence[Tensor],
        rows: int,
        format: TensorFormat,
        around: Surroundings,
    ) -> Tensor:
        """`linear` of the `norm` of x, then `gated_silu` where it is `gated`, plus the residual."""
        norm, gated, residual = around
        if norm is not None:
            x = self.rms_norm(x, norm.weight, norm.epsilon)
        y = self.linear(x, weight, rows, format, self.dtype)
        if gated:
            y = self.gated_silu(y)
        return y if residual is None else y + residual

    @abstractmethod
    def take(
        self, weight: Sequence[Tensor], ids: Tensor, columns: int, format: TensorFormat
    ) -> Tensor:
        """Rows `ids` int32 [n] of a weight, [n, columns]."""

    @abstractmethod
    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """x [..., width] over its root mean square, times weight [width], summed in float32."""

    @abstractmethod
    def gated_silu(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up for [..., 2 n] that holds gate, then up; [..., n]."""

    @abstractmethod
    def argsort_descending(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """values float32 [b, V], V known, and their indices int32 [b, V], largest first, equals in order."""

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn on the device."""
        return False

    def draw(self, logits: Tensor, settings: Tensor) -> Tensor:
        """A token by logits float32 [V], V known, and DRAW_SETTINGS; int32 [DRAW_HEAD + 2 MOST_TOP].

        In this order: the token, its logit, the highest logit and the sum of exp(logit - highest); then the
        first tokens, each with its logit. All but tokens are float32, by their bits. The highest logit is
        NaN if any is. Sums are rounded to float32, in an order that is always the same.
        """
        raise NotImplementedError(f"{type(self).__name__} doesn't draw tokens")

    @abstractmethod
    def attention(self, shape: KVCacheShape) -> AttentionPrograms:
        """The programs that suit a cache."""

    def attention_workspace(self, shape: KVCacheShape, *, tokens: int, sequences: int) -> int:
        """Bytes that the largest buffer of those programs' own takes for so many tokens in `sequences`."""
        return 0

    def rotary(self, shape: KVCacheShape) -> tirx.PrimFunc:
        """Fused queries, keys and values apart, the former two rotated by their positions."""
        return tvm_kernels.llama_rope_with_position_map(
            shape.rope_theta,
            1,
            shape.head_dim,
            shape.query_heads,
            shape.kv_heads,
            shape.dtype,
            shape.rope_scaling,
            shape.head_dim,
        )

    @abstractmethod
    def pages(self, shape: KVCacheShape) -> PagePrograms:
        """The programs that move what a cache holds."""

    @abstractmethod
    def schedule_rules(self) -> list[Any]:
        """dlight's rules, the first that applies, for programs that come without a schedule."""

    @property
    def narrows_indices(self) -> bool:
        """Whether programs have to count in int32: WGSL has no int64."""
        return False

    @property
    def is_coarse(self) -> bool:
        """Whether a rounding to few digits can fall to the other side from one run of kernels to the next."""
        return self.dtype == "float16"


def float_rank(value: tirx.Expr) -> tirx.Expr:
    """An int32 for a float32, in the order that `argsort_descending` sorts by.

    NaNs are at the ends, so that each has a place.
    """
    bits = T.reinterpret("int32", value)
    return bits ^ ((bits >> 31) & T.int32(0x7FFFFFFF))
