"""A standard parameter set's weights as the floats that they stand for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.weight_index import TENSOR_CACHE_NAME, TensorRecord, read_index, widen_bfloat16
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.formats import GROUP, infer_format, layer_of
from webbuild.quantization.groups import Floats, Groups


class StoredWeights:
    """FloatWeights of a folder with tensor-cache.json and its shards, which are mapped into memory."""

    def __init__(self, folder: Path, table: Sequence[ParameterSpec]) -> None:
        """Raises BundleError if the index is damaged."""
        self._specs = {spec.name: spec for spec in table}
        self._tensors: dict[str, tuple[Path, TensorRecord]] = {}
        for shard in read_index(folder / TENSOR_CACHE_NAME):
            for record in shard.tensors:
                self._tensors[record.name] = (folder / shard.name, record)
        shapes = {name: record.shape for name, (_, record) in self._tensors.items()}
        self._formats = {spec.name: infer_format(layer_of(spec.name), shapes) for spec in table}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """See webbuild.models.float_weights.FloatWeights."""
        layer, format = layer_of(name), self._formats[name]
        if not format.bits:
            return self._floats(name, start, stop)
        words = self._stored(f"{layer}.q_weight", start, stop)
        shifts = np.arange(format.levels_per_word, dtype=np.uint32) * np.uint32(format.bits)
        mask = np.uint32((1 << format.bits) - 1)
        levels = ((words[:, :, None] >> shifts) & mask).astype(np.uint8)
        groups = Groups(
            format,
            levels.reshape(len(words), -1, GROUP),
            self._floats(f"{layer}.q_scale", start, stop),
            self._floats(f"{layer}.q_minimum", start, stop) if format.has_minimums else None,
        )
        return groups.values(self._specs[name].shape[1])

    def _floats(self, name: str, start: int, stop: int | None) -> Floats:
        rows = self._stored(name, start, stop)
        if self._tensors[name][1].is_bfloat16:
            return widen_bfloat16(rows)
        return rows.astype(np.float32)

    def _stored(self, name: str, start: int, stop: int | None) -> npt.NDArray[Any]:
        file, record = self._tensors[name]
        mapped = np.memmap(
            file, record.stored_dtype, mode="r", offset=record.offset, shape=record.shape
        )
        return np.asarray(mapped[start:stop])
