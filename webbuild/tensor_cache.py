"""Weights in MLC's files: `params_shard_*.bin` and the `tensor-cache.json` that describes them."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from mlc_edge.weight_index import TENSOR_CACHE_NAME
from webbuild.models.spec import ParameterSpec, parameter_count
from webbuild.quantization.encode import encode_rows
from webbuild.quantization.formats import OutputTensor, Storage, WeightFormats
from webbuild.quantization.groups import Quantizer, SourceTensor

SHARD_BYTES = 32 << 20
# Peak memory is a few times this, whatever the size of the tensors.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Placement:
    """A tensor's place in a shard; `offset` in bytes."""

    tensor: OutputTensor
    shard: int
    offset: int


@dataclass(frozen=True)
class WeightPlan:
    """Which tensors go where; made from shapes alone, before any weight is read."""

    formats: WeightFormats
    table: Sequence[ParameterSpec]
    placements: dict[str, list[Placement]]
    shard_bytes: list[int]

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(self.shard_bytes)


def plan_weights(
    table: Sequence[ParameterSpec],
    formats: WeightFormats,
    storages: Mapping[str, Storage] | None = None,
) -> WeightPlan:
    """Place every tensor of `table`, in order, in shards of 32 MiB.

    A tensor of half a shard or more that doesn't fit gets a shard of its own, as in MLC. `storages` names
    tensors that are stored in another way than the format's.
    """
    placements: dict[str, list[Placement]] = {spec.name: [] for spec in table}
    sizes = [0]
    pending = 0
    for spec in table:
        for tensor in formats.output_tensors(spec):
            tensor = replace(tensor, storage=(storages or {}).get(tensor.name, tensor.storage))
            need = tensor.stored_bytes
            overflows = sizes[pending] > 0 and sizes[pending] + need > SHARD_BYTES
            if overflows:
                sizes.append(0)
            shard = len(sizes) - 1 if overflows else pending
            if overflows and need * 2 < SHARD_BYTES:
                pending = shard
            placements[spec.name].append(Placement(tensor, shard, sizes[shard]))
            sizes[shard] += need
    return WeightPlan(formats, table, placements, sizes)


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"params_shard_{index}.bin"


def write_weights(
    folder: Path,
    plan: WeightPlan,
    sources: Mapping[str, SourceTensor],
    quantizer: Quantizer,
    advance: Callable[[int], None],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Encode `sources` into `folder`'s shards and describe them in tensor-cache.json.

    `advance` is called with numbers of bytes written; `block_bytes` are those of floats that are encoded at a
    time. Raises CheckpointError for values that the
    format can't hold.
    """
    create_shards(folder, plan)
    for spec in plan.table:
        encoded = _encode(spec, plan, sources, quantizer, block_bytes)
        _write_parameter(folder, plan.placements[spec.name], encoded, advance)
    describe_shards(folder, plan)


def create_shards(folder: Path, plan: WeightPlan) -> None:
    """Make `folder`'s shards, in their sizes and without content."""
    for index, size in enumerate(plan.shard_bytes):
        with (folder / shard_name(index)).open("wb") as file:
            file.truncate(size)


def describe_shards(folder: Path, plan: WeightPlan) -> None:
    """Write the tensor-cache.json of `folder`'s shards, once they have their content."""
    write_index(folder, _describe(folder, plan))


def write_index(folder: Path, content: dict[str, Any]) -> None:
    """Write `folder`'s tensor-cache.json."""
    text = json.dumps(content, separators=(",", ":")) + "\n"
    (folder / TENSOR_CACHE_NAME).write_text(text, encoding="utf-8")


def _write_parameter(
    folder: Path,
    placements: Sequence[Placement],
    encoded: Iterator[Iterator[bytes]],
    advance: Callable[[int], None],
) -> None:
    """Write the tensors of a parameter; `encoded` has some rows of each of them at a time."""
    files: list[BinaryIO] = [(folder / shard_name(p.shard)).open("r+b") for p in placements]
    try:
        for file, placement in zip(files, placements, strict=True):
            file.seek(placement.offset)
        for contents in encoded:
            for file, content in zip(files, contents, strict=True):
                file.write(content)
                advance(len(content))
    finally:
        for file in files:
            file.close()


def _encode(
    spec: ParameterSpec,
    plan: WeightPlan,
    sources: Mapping[str, SourceTensor],
    quantizer: Quantizer,
    block_bytes: int,
) -> Iterator[Iterator[bytes]]:
    """The parameter's rows, in runs of at most `block_bytes` as float32, as bytes of each of its tensors."""
    step = max(1, block_bytes // (4 * math.prod(spec.shape[1:])))
    first = 0
    for name in spec.sources:
        rows = sources[name].shape[0]
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield encode_rows(
                sources[name],
                spec,
                rows=(start, stop),
                first=first + start,
                formats=plan.formats,
                quantizer=quantizer,
            )
        first += rows


def _describe(folder: Path, plan: WeightPlan) -> dict[str, Any]:
    by_shard: list[list[Placement]] = [[] for _ in plan.shard_bytes]
    for placements in plan.placements.values():
        for placement in placements:
            by_shard[placement.shard].append(placement)
    return {
        "metadata": {
            "ParamSize": sum(map(len, by_shard)),
            "ParamBytes": plan.total_bytes,
            "BitsPerParam": plan.total_bytes * 8 / parameter_count(plan.table),
        },
        "records": [
            {
                "dataPath": shard_name(index),
                "format": "raw-shard",
                "nbytes": plan.shard_bytes[index],
                "records": [_record(placement) for placement in placements],
                "md5sum": hash_md5(folder / shard_name(index)),
            }
            for index, placements in enumerate(by_shard)
        ],
    }


def _record(placement: Placement) -> dict[str, Any]:
    tensor = placement.tensor
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "format": tensor.storage,
        "nbytes": tensor.stored_bytes,
        "byteOffset": placement.offset,
    }


def hash_md5(path: Path) -> str:
    """MD5 of a file's content in hexadecimal: MLC's checksum of a shard."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
