"""Rows of weights as they are stored, in float64: what a library's kernels must agree with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.parameters import ParameterSet

GROUP = 32
ZERO_POINTS = {"q4": 7, "q4m": 0, "q8": 128}
INTERLEAVED = "_interleaved"
# Rows that webbuild.interleaved puts together.
BLOCK_ROWS = 16

Floats = npt.NDArray[np.float64]


def stored_rows(parameters: ParameterSet, weight: Mapping[str, Any], rows: Sequence[int]) -> Floats:
    """Rows of a weight [out_features, in_features] that a library's metadata describes, [n, in_features].

    `layout` is "plain", a format of ZERO_POINTS in MLC's order, or, with INTERLEAVED after it, in that of
    dot products on CPUs.
    """
    names, width, layout = weight["parameters"], weight["in_features"], weight["layout"]
    if layout == "plain":
        return parameters.rows(names[0], rows).astype(np.float64)
    format = layout.removesuffix(INTERLEAVED)
    read = _interleaved if layout != format else _in_order
    levels, scales, *minimums = read(parameters, names, rows, 8 if format == "q8" else 4)
    centred = levels.reshape(len(rows), -1, GROUP).astype(np.float64) - ZERO_POINTS[format]
    values: Floats = centred * scales.astype(np.float64)[:, :, None]
    if minimums:
        values += minimums[0].astype(np.float64)[:, :, None]
    return values.reshape(len(rows), -1)[:, :width]


def _in_order(
    parameters: ParameterSet, names: Sequence[str], rows: Sequence[int], bits: int
) -> list[npt.NDArray[Any]]:
    words, *floats = (parameters.rows(name, rows) for name in names)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return [(words[:, :, None] >> shifts) & ((1 << bits) - 1), *floats]


def _interleaved(
    parameters: ParameterSet, names: Sequence[str], rows: Sequence[int], bits: int
) -> list[npt.NDArray[Any]]:
    count = len(rows)
    blocks, lanes = np.divmod(np.asarray(rows), BLOCK_ROWS)
    packed, *block_floats = (parameters.rows(name, blocks.tolist()) for name in names)
    # Axes: row, group, inputs together, lane, input.
    own = packed.reshape(count, packed.shape[1], -1, BLOCK_ROWS, 4)[np.arange(count), :, :, lanes]
    # The upper half of a byte is 4 inputs later.
    levels = own if bits == 8 else np.concatenate([own & 15, own >> 4], axis=-1)
    return [levels, *(floats[np.arange(count), :, lanes] for floats in block_floats)]
