"""A GGUF file's tensors under the names, and in the order of rows, of Hugging Face's checkpoints."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from webbuild.gguf.blocks import Bytes, widened
from webbuild.gguf.header import TensorInfo
from webbuild.gguf.mapped import MappedFile
from webbuild.quantization.formats import TensorFormat
from webbuild.quantization.groups import Floats, Groups

# Tables that are computed from the configuration.
IGNORED = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_rot_embd\.weight")
OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER = re.compile(r"blk\.(0|[1-9]\d{0,3})\.(\w+)\.weight")
# Rows of a head that rotary embedding turns together: neighbours here, halves of a head there.
PAIRED = ("attn_q", "attn_k")


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A SourceTensor; `paired_rows` is the number of rows of a head whose rows are in pairs.

    `group_format` is the type's, or one that holds the same values.
    """

    name: str
    info: TensorInfo
    data: MappedFile
    group_format: TensorFormat | None
    paired_rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the floats."""
        return self.info.shape

    @property
    def type_name(self) -> str:
        """The type of its weights, as the file has them."""
        return self.info.type_name

    @property
    def is_quantized(self) -> bool:
        """Whether its weights were rounded before they came into the file."""
        return bool(self.info.type and self.info.type.is_quantized)

    def read_rows(self, start: int, stop: int) -> Floats:
        """Rows along axis 0, float32 [stop - start, ...]; raises CheckpointError if the file is too short."""
        assert self.info.type, "tensors of unknown types are refused"
        values = self.info.type.values(self._bytes(start, stop))
        return values.reshape(stop - start, *self.shape[1:])

    def read_groups(self, start: int, stop: int) -> Groups:
        """The same rows as they are stored; only where there is a `group_format`."""
        assert self.info.type, "tensors of unknown types are refused"
        groups = self.info.type.groups(self._bytes(start, stop))
        return groups if groups.format == self.group_format else widened(groups)

    def _bytes(self, start: int, stop: int) -> Bytes:
        rows = np.arange(start, stop)
        if self.paired_rows:
            head, place = np.divmod(rows, self.paired_rows)
            half, pair = np.divmod(place, self.paired_rows // 2)
            rows = head * self.paired_rows + 2 * pair + half
        return self.data.rows(self.info.offset, self.info.row_bytes, rows)


def huggingface_name(name: str) -> str | None:
    """The checkpoint's name of a GGUF file's tensor, None for one that Llama doesn't have."""
    layer = LAYER.fullmatch(name)
    if layer and layer[2] in INNER:
        return f"model.layers.{layer[1]}.{INNER[layer[2]]}.weight"
    return OUTER.get(name)


def gguf_name(name: str) -> str:
    """The GGUF file's name of a checkpoint's tensor."""
    outer = {theirs: own for own, theirs in OUTER.items()}
    if name in outer:
        return outer[name]
    index, _, inner = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
    own = next(own for own, theirs in INNER.items() if theirs == inner)
    return f"blk.{index}.{own}.weight"


def source_tensors(
    data: MappedFile, infos: Iterable[TensorInfo], *, head_dim: int
) -> dict[str, GgufTensor]:
    """The tensors that a Llama has, by the checkpoint's names."""
    tensors = {}
    for info in infos:
        name = huggingface_name(info.name)
        if name is None:
            continue
        layer = LAYER.fullmatch(info.name)
        tensors[name] = GgufTensor(
            name=name,
            info=info,
            data=data,
            group_format=info.type.format if info.type else None,
            paired_rows=head_dim if layer and layer[2] in PAIRED else None,
        )
    return tensors
