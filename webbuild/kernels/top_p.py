"""Sampling within top-p from sorted probabilities, without barriers.

TVM's own kernels take cumulative sums by a GPU scan whose threads read what their neighbours write without a
barrier between: right where 32 threads go in step, which WebGPU doesn't promise.
"""

from tvm import tirx
from tvm.relax.frontend.nn import Tensor, op
from tvm.script import tirx as T

# Probabilities that one thread sums; the thread that samples goes through these sums, then through a block.
BLOCK = 256


def sample_top_p(
    sorted_probs: Tensor,
    sorted_indices: Tensor,
    uniform_samples: Tensor,
    sample_indices: Tensor,
    top_p: Tensor,
) -> Tensor:
    """Token ids int32 [n] for uniform_samples [n] in [0, 1), each for the row sample_indices [n].

    sorted_probs float32 [b, V] descend and belong to sorted_indices int32 [b, V]. The first tokens that
    reach top_p [b] together count, the last of them wholly, and share the range of the sample.
    """
    batch, vocabulary = sorted_probs.shape
    (samples,) = uniform_samples.shape
    blocks = tirx.ceildiv(vocabulary, BLOCK)
    sums = op.tensor_ir_op(
        _sum_blocks, "sum_blocks", [sorted_probs], Tensor.placeholder((batch, blocks), "float32")
    )
    arguments = [sorted_probs, sorted_indices, sums, uniform_samples, sample_indices, top_p]
    out = Tensor.placeholder((samples,), "int32")
    return op.tensor_ir_op(_draw, "sample_from_sums", arguments, out)


@T.prim_func(s_tir=True, private=True)
def _sum_blocks(probs_handle: T.handle, sums_handle: T.handle):
    T.func_attr({"op_pattern": 8, "tirx.noalias": True})
    batch, vocabulary, blocks = T.int64(), T.int64(), T.int64()
    probs = T.match_buffer(probs_handle, (batch, vocabulary), "float32")
    sums = T.match_buffer(sums_handle, (batch, blocks), "float32")
    for b, i in T.grid(batch, blocks):
        with T.sblock("sum"):
            vb, vi = T.axis.remap("SS", [b, i])
            T.reads(probs[vb, 0:vocabulary])
            T.writes(sums[vb, vi])
            total = T.sblock_alloc_buffer((1,), "float32", scope="local")
            total[0] = T.float32(0)
            for j in T.serial(T.min(BLOCK, vocabulary - vi * BLOCK)):
                total[0] = total[0] + probs[vb, vi * BLOCK + j]
            sums[vb, vi] = total[0]


def _falls_short(total: tirx.Expr, bound: tirx.Expr, search: tirx.Expr) -> tirx.Expr:
    """Whether a sum hasn't reached top-p (the first search), or isn't beyond the sample's share."""
    return tirx.any(total < bound, tirx.all(search == 1, total == bound))


@T.prim_func(s_tir=True, private=True)
def _draw(
    probs_handle: T.handle,
    indices_handle: T.handle,
    sums_handle: T.handle,
    uniform_handle: T.handle,
    rows_handle: T.handle,
    top_p_handle: T.handle,
    chosen_handle: T.handle,
):
    # Both searches add the same numbers in the same order, so that what is under the sample's share of the
    # whole is found before the whole's end. `bound` is what the sum has to reach: top-p, then that share.
    T.func_attr({"op_pattern": 8, "tirx.noalias": True})
    batch, vocabulary, blocks = T.int64(), T.int64(), T.int64()
    samples = T.int64()
    probs = T.match_buffer(probs_handle, (batch, vocabulary), "float32")
    indices = T.match_buffer(indices_handle, (batch, vocabulary), "int32")
    sums = T.match_buffer(sums_handle, (batch, blocks), "float32")
    uniform = T.match_buffer(uniform_handle, (samples,), "float32")
    rows = T.match_buffer(rows_handle, (samples,), "int32")
    top_p = T.match_buffer(top_p_handle, (batch,), "float32")
    chosen = T.match_buffer(chosen_handle, (samples,), "int32")
    for s in T.serial(samples):
        with T.sblock("draw"):
            vs = T.axis.spatial(samples, s)
            T.reads(
                probs[0:batch, 0:vocabulary],
                indices[0:batch, 0:vocabulary],
                sums[0:batch, 0:blocks],
                uniform[vs],
                rows[vs],
                top_p[0:batch],
            )
            T.writes(chosen[vs])
            bound = T.sblock_alloc_buffer((1,), "float32", scope="local")
            total = T.sblock_alloc_buffer((1,), "float32", scope="local")
            block = T.sblock_alloc_buffer((1,), "int32", scope="local")
            found = T.sblock_alloc_buffer((1,), "int32", scope="local")
            last = T.sblock_alloc_buffer((1,), "int32", scope="local")
            count: T.let[T.int32] = T.Cast("int32", vocabulary)
            bound[0] = top_p[rows[vs]]
            last[0] = count - 1
            for search in T.serial(2):
                total[0] = T.float32(0)
                block[0] = 0
                for i in T.serial(T.Cast("int32", blocks) - 1):
                    if i == block[0] and _falls_short(
                        total[0] + sums[rows[vs], i], bound[0], search
                    ):
                        total[0] = total[0] + sums[rows[vs], i]
                        block[0] = i + 1
                found[0] = -1
                for j in T.serial(T.min(BLOCK, count - block[0] * BLOCK)):
                    if found[0] < 0:
                        total[0] = total[0] + probs[rows[vs], block[0] * BLOCK + j]
                        if not _falls_short(total[0], bound[0], search):
                            found[0] = block[0] * BLOCK + j
                if found[0] < 0:
                    found[0] = T.min(block[0] * BLOCK + BLOCK, count) - 1
                last[0] = T.min(found[0], last[0])
                bound[0] = total[0] * uniform[vs]
            chosen[vs] = indices[rows[vs], last[0]]
