"""Drawing a token on the device, for our own engines: only it and what was asked about it come back."""

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.script.ir_builder import tirx as T

from webbuild.kernels.interface import DRAW_SETTINGS
from webbuild.kernels.program import argument, build, size
from webbuild.numerics import Numerics

DRAWING_FUNCTIONS = ("adjust_logits", "draw_token")
THREADS = 64
# The bits of float32's largest number, which the code generator would write with fewer digits.
LARGEST = 0x7F7FFFFF
_BARE = {"param_mode": "none", "effect_mode": "none"}


def drawing_spec(vocab_size: int) -> dict[str, Any]:
    """What `nn.Module.export_tvm` needs to know of each function's arguments."""
    logits = nn.spec.Tensor([vocab_size], "float32")
    return {
        "adjust_logits": {
            "logits": logits,
            "token_ids": nn.spec.Tensor(["num_token"], "int32"),
            "adjustments": nn.spec.Tensor(["num_token", 2], "float32"),
            "$": _BARE,
        },
        "draw_token": {
            "logits": logits,
            "settings": nn.spec.Tensor([len(DRAW_SETTINGS)], "float32"),
            "$": _BARE,
        },
    }


def adjust_program(vocabulary: int) -> tirx.PrimFunc:
    """logits float32 [vocabulary], ids int32 [n], adjustments float32 [n, 2]; see Drawing.adjust_logits."""

    def body() -> None:
        count = size("count")
        logits = argument("logits", (vocabulary,), "float32")
        ids = argument("ids", (count,), "int32")
        adjustments = argument("adjustments", (count, 2), "float32")
        with (
            T.thread_binding(0, tirx.ceildiv(count, THREADS), thread="blockIdx.x") as block,
            T.thread_binding(0, THREADS, thread="threadIdx.x") as thread,
        ):
            place = T.bind(block * THREADS + thread)
            with T.If(place < count), T.Then():
                id = T.bind(ids[place])
                with T.If(tirx.all(id >= 0, id < vocabulary)), T.Then():
                    _adjust(logits, id, adjustments[place, 0], adjustments[place, 1])

    return build("adjust_logits", body)


def _adjust(logits: tirx.Buffer, id: tirx.Expr, factor: tirx.Expr, addend: tirx.Expr) -> None:
    logit = T.bind(logits[id])
    scaled = T.Select(logit > 0, logit / factor, logit * factor) + addend
    largest = T.reinterpret("float32", T.uint32(LARGEST))
    bounded = T.min(T.max(scaled, -largest), largest)
    # By its bits: shaders may take it that all is finite.
    magnitude = T.reinterpret("uint32", logit) & T.uint32(0x7FFFFFFF)
    with T.If(magnitude < T.uint32(0x7F800000)), T.Then():
        T.buffer_store(logits, bounded, [id])


class Drawing:
    """Mixed into a library's module where the device's kernels draw."""

    numerics: Numerics

    def adjust_logits(self, logits: Tensor, token_ids: Tensor, adjustments: Tensor) -> Tensor:
        """Penalties and bias, in place, of token_ids [n], each there once; negative ones are none.

        logits [V] that are finite are divided, if positive, or multiplied by the first of adjustments
        [n, 2]; the second is added. They stay finite.
        """
        return op.tensor_ir_inplace_op(
            adjust_program(int(logits.shape[0])),
            "adjust_logits",
            [logits, token_ids, adjustments],
            inplace_indices=0,
            out=Tensor.placeholder(logits.shape, logits.dtype),
        )

    def draw_token(self, logits: Tensor, settings: Tensor) -> Tensor:
        """What `Kernels.draw` gives for logits [V]."""
        return self.numerics.kernels.draw(logits, settings)
