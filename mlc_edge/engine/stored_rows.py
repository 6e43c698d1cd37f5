"""Rows of weights as they are stored, in float64: what a library's kernels must agree with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.parameters import ParameterSet

GROUP = 32
ZERO_POINT = 7
# Rows that webbuild.interleaved puts together.
BLOCK_ROWS = 16

Floats = npt.NDArray[np.float64]


def stored_rows(parameters: ParameterSet, weight: Mapping[str, Any], rows: Sequence[int]) -> Floats:
    """Rows of a weight [out_features, in_features] that a library's metadata describes, [n, in_features].

    `layout` is "plain", "q4" (MLC's order) or "q4_interleaved" (that of dot products on CPUs).
    """
    names, width = weight["parameters"], weight["in_features"]
    if weight["layout"] == "plain":
        return parameters.rows(names[0], rows).astype(np.float64)
    if weight["layout"] == "q4":
        words, scales = (parameters.rows(name, rows) for name in names)
        levels = (words[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    else:
        blocks, lanes = np.divmod(np.asarray(rows), BLOCK_ROWS)
        packed, block_scales = (parameters.rows(name, blocks.tolist()) for name in names)
        # Axes: row, group, eight inputs, lane, input; the upper half of a byte is 4 inputs later.
        eights = packed.reshape(len(rows), -1, 4, BLOCK_ROWS, 4)
        own = eights[np.arange(len(rows)), :, :, lanes]
        levels = np.concatenate([own & 15, own >> 4], axis=-1)
        scales = block_scales[np.arange(len(rows)), :, lanes]
    centred = levels.reshape(len(rows), -1, GROUP).astype(np.float64) - ZERO_POINT
    values: Floats = centred * scales.astype(np.float64)[:, :, None]
    return values.reshape(len(rows), -1)[:, :width]
