"""Logit processing and sampling on the device: the functions that MLC's runtimes look up in a library."""

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.script import tirx as T

from webbuild.kernels.top_p import sample_top_p
from webbuild.numerics import Numerics

SMALLEST_TEMPERATURE = 1e-5
_BARE = {"param_mode": "none", "effect_mode": "none"}


def _floats(*shape: Any) -> nn.spec.Tensor:
    return nn.spec.Tensor(list(shape), "float32")


def _ints(*shape: Any) -> nn.spec.Tensor:
    return nn.spec.Tensor(list(shape), "int32")


_SPEC = {
    "apply_logit_bias_inplace": {
        "logits": _floats("batch_size", "vocab_size"),
        "pos2seq_id": _ints("num_token"),
        "token_ids": _ints("num_token"),
        "logit_bias": _floats("num_token"),
        "$": _BARE,
    },
    "apply_penalty_inplace": {
        "logits": _floats("batch_size", "vocab_size"),
        "seq_ids": _ints("num_seq"),
        "pos2seq_id": _ints("num_token"),
        "token_ids": _ints("num_token"),
        "token_counts": _ints("num_token"),
        "penalties": _floats("num_seq", 3),
        "$": _BARE,
    },
    "apply_bitmask_inplace": {
        "logits": _floats("batch_size", "vocab_size"),
        "seq_ids": _ints("num_seq"),
        "bitmask": _ints("batch_size", "num_words"),
        "$": _BARE,
    },
    "softmax_with_temperature": {
        "logits": _floats("batch_size", 1, "vocab_size"),
        "temperature": _floats("batch_size"),
        "$": _BARE,
    },
    "sample_with_top_p": {
        "sorted_probs": _floats("batch_size", "vocab_size"),
        "sorted_indices": _ints("batch_size", "vocab_size"),
        "uniform_samples": _floats("num_samples"),
        "sample_indices": _ints("num_samples"),
        "top_p": _floats("batch_size"),
        "$": _BARE,
    },
}
SAMPLING_FUNCTIONS = (*_SPEC, "argsort_probs")


def sampling_spec(vocab_size: int) -> dict[str, Any]:
    """What `nn.Module.export_tvm` needs to know of each function's arguments.

    Sorting is in as many steps as `vocab_size` takes; the other functions take vocabularies of any size.
    """
    return {**_SPEC, "argsort_probs": {"probs": _floats("batch_size", vocab_size), "$": _BARE}}


# The blocks below update logits in place, each iteration its own element. They leave logits out of their
# declared reads, because a block that reads what it writes may not be bound to threads.


@T.prim_func(s_tir=True, private=True)
def _add_bias(
    logits_handle: T.handle,
    pos2seq_handle: T.handle,
    tokens_handle: T.handle,
    bias_handle: T.handle,
):
    T.func_attr({"op_pattern": 8, "tirx.noalias": True})
    batch, vocabulary, count = T.int64(), T.int64(), T.int64()
    logits = T.match_buffer(logits_handle, (batch, vocabulary), "float32")
    pos2seq = T.match_buffer(pos2seq_handle, (count,), "int32")
    tokens = T.match_buffer(tokens_handle, (count,), "int32")
    bias = T.match_buffer(bias_handle, (count,), "float32")
    for i in T.serial(count):
        with T.sblock("bias"):
            v = T.axis.spatial(count, i)
            T.reads(pos2seq[v], tokens[v], bias[v])
            T.writes(logits[pos2seq[v], tokens[v]])
            logits[pos2seq[v], tokens[v]] = logits[pos2seq[v], tokens[v]] + bias[v]


@T.prim_func(s_tir=True, private=True)
def _apply_penalties(
    logits_handle: T.handle,
    seq_ids_handle: T.handle,
    pos2seq_handle: T.handle,
    tokens_handle: T.handle,
    counts_handle: T.handle,
    penalties_handle: T.handle,
):
    T.func_attr({"op_pattern": 8, "tirx.noalias": True})
    batch, vocabulary, sequences, count = T.int64(), T.int64(), T.int64(), T.int64()
    logits = T.match_buffer(logits_handle, (batch, vocabulary), "float32")
    seq_ids = T.match_buffer(seq_ids_handle, (sequences,), "int32")
    pos2seq = T.match_buffer(pos2seq_handle, (count,), "int32")
    tokens = T.match_buffer(tokens_handle, (count,), "int32")
    counts = T.match_buffer(counts_handle, (count,), "int32")
    penalties = T.match_buffer(penalties_handle, (sequences, 3), "float32")
    for i in T.serial(count):
        with T.sblock("presence_and_frequency"):
            v = T.axis.spatial(count, i)
            T.reads(pos2seq[v], tokens[v], counts[v], seq_ids[pos2seq[v]])
            T.writes(logits[seq_ids[pos2seq[v]], tokens[v]])
            logits[seq_ids[pos2seq[v]], tokens[v]] = (
                logits[seq_ids[pos2seq[v]], tokens[v]]
                - penalties[pos2seq[v], 0]
                - T.Cast("float32", counts[v]) * penalties[pos2seq[v], 1]
            )
            logits[seq_ids[pos2seq[v]], tokens[v]] = T.if_then_else(
                logits[seq_ids[pos2seq[v]], tokens[v]] > T.float32(0),
                logits[seq_ids[pos2seq[v]], tokens[v]] / penalties[pos2seq[v], 2],
                logits[seq_ids[pos2seq[v]], tokens[v]] * penalties[pos2seq[v], 2],
            )


@T.prim_func(s_tir=True, private=True)
def _apply_bitmask(logits_handle: T.handle, seq_ids_handle: T.handle, bitmask_handle: T.handle):
    T.func_attr({"op_pattern": 8, "tirx.noalias": True})
    batch, vocabulary, sequences, words = T.int64(), T.int64(), T.int64(), T.int64()
    logits = T.match_buffer(logits_handle, (batch, vocabulary), "float32")
    seq_ids = T.match_buffer(seq_ids_handle, (sequences,), "int32")
    bitmask = T.match_buffer(bitmask_handle, (batch, words), "int32")
    for s, t in T.grid(sequences, vocabulary):
        with T.sblock("mask"):
            vs, vt = T.axis.remap("SS", [s, t])
            T.reads(seq_ids[vs], bitmask[seq_ids[vs], vt // 32])
            T.writes(logits[seq_ids[vs], vt])
            logits[seq_ids[vs], vt] = T.if_then_else(
                (bitmask[seq_ids[vs], vt // 32] >> T.Cast("int32", vt % 32)) & 1 == 1,
                logits[seq_ids[vs], vt],
                T.min_value("float32"),
            )


class Sampling:
    """Mixed into a library's module; names and arguments are MLC's."""

    numerics: Numerics

    def apply_logit_bias_inplace(
        self, logits: Tensor, pos2seq_id: Tensor, token_ids: Tensor, logit_bias: Tensor
    ) -> Tensor:
        """logits [b, V] += logit_bias [n] at (pos2seq_id [n], token_ids [n])."""
        arguments = [logits, pos2seq_id, token_ids, logit_bias]
        return _in_place(_add_bias, "add_logit_bias", arguments)

    def apply_penalty_inplace(
        self,
        logits: Tensor,
        seq_ids: Tensor,
        pos2seq_id: Tensor,
        token_ids: Tensor,
        token_counts: Tensor,
        penalties: Tensor,
    ) -> Tensor:
        """Presence, frequency (OpenAI) and repetition (https://arxiv.org/abs/1909.05858) penalties."""
        arguments = [logits, seq_ids, pos2seq_id, token_ids, token_counts, penalties]
        return _in_place(_apply_penalties, "apply_penalties", arguments)

    def apply_bitmask_inplace(self, logits: Tensor, seq_ids: Tensor, bitmask: Tensor) -> Tensor:
        """logits [b, V] become the smallest float where the bit of a token is 0."""
        return _in_place(_apply_bitmask, "apply_bitmask", [logits, seq_ids, bitmask])

    def softmax_with_temperature(self, logits: Tensor, temperature: Tensor) -> Tensor:
        """logits [b, 1, V] and temperature [b] to probabilities [b, 1, V]."""
        batch, _, _ = logits.shape
        floor = op.maximum(temperature, Tensor.from_scalar(SMALLEST_TEMPERATURE, "float32"))
        return op.softmax(logits / op.reshape(floor, (batch, 1, 1)), axis=-1)

    def argsort_probs(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """probs [b, V] to the values and token ids, most probable first, equals by their ids."""
        return self.numerics.kernels.argsort_descending(probs)

    def sample_with_top_p(
        self,
        sorted_probs: Tensor,
        sorted_indices: Tensor,
        uniform_samples: Tensor,
        sample_indices: Tensor,
        top_p: Tensor,
    ) -> Tensor:
        """Token ids int32 [n], by the inverse of the cumulative probabilities within top_p."""
        return sample_top_p(sorted_probs, sorted_indices, uniform_samples, sample_indices, top_p)


def _in_place(function: tirx.PrimFunc, name: str, arguments: list[Tensor]) -> Tensor:
    logits = arguments[0]
    return op.tensor_ir_inplace_op(
        function,
        name,
        arguments,
        inplace_indices=0,
        out=Tensor.placeholder(logits.shape, logits.dtype),
    )
