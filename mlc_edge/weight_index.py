"""`tensor-cache.json`: where a parameter set's tensors lie, checked before a byte of them is read.

The format is MLC's; TVM's `tvmjs.dump_tensor_cache` writes it.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_edge.bundle import REBUILD
from mlc_edge.errors import BundleError
from mlc_edge.lock_fields import is_file_name, told

TENSOR_CACHE_NAME = "tensor-cache.json"
BFLOAT16_FORMAT = "f32-to-bf16"
FORMATS = ("raw", BFLOAT16_FORMAT)
DTYPES = ("uint8", "uint32", "float16", "float32")
# Of a library's parameter that is some rows of a stored tensor.
FIRST_ROW = "first_row"
# What compiled code may assume of a tensor's address in memory (TVM's kAllocAlignment).
ALIGNMENT = 64
# Far beyond any model: numbers of this size can be multiplied, and shown.
MOST_AXES, LARGEST = 8, 1 << 48
# Enough to see what is wrong with a file that has nothing right.
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class TensorRecord:
    """A tensor in a file: `dtype` is its type in memory, `nbytes` and `offset` are the file's."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str
    nbytes: int
    offset: int

    @property
    def is_bfloat16(self) -> bool:
        """Whether the file has upper halves of float32.

        TVM's writer notes the format on tensors of every dtype, and encodes those of float32 alone.
        """
        return self.format == BFLOAT16_FORMAT and self.dtype == "float32"

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of the file's elements; bfloat16 as uint16."""
        return np.dtype("<u2") if self.is_bfloat16 else np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class Shard:
    """A file of tensors beside the index; `md5` in hexadecimal, if the index has it."""

    name: str
    nbytes: int
    md5: str | None
    tensors: tuple[TensorRecord, ...]


def widen_bfloat16(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Upper halves of float32 to the numbers that they stand for."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def read_index(path: Path) -> list[Shard]:
    """The shards of the index file at `path`; raises BundleError that lists what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} can't be read: {error}. {REBUILD}") from error
    shards, problems = parse_index(content)
    if problems:
        raise BundleError(f"{path} is damaged: {told(problems)}. {REBUILD}")
    return shards


def parse_index(content: Any) -> tuple[list[Shard], list[str]]:
    """The shards that an index's JSON describes, and what is wrong with it.

    Without problems, every tensor lies inside its shard, takes the bytes of its shape, and is there once.
    """
    entries = content.get("records") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return [], ["it has no list of records"]
    problems: list[str] = []
    shards = [shard for entry in entries if (shard := _parse_shard(entry, problems))]
    problems += [f"it names {name!r:.80} twice" for name in _twice(shard.name for shard in shards)]
    tensors = (tensor.name for shard in shards for tensor in shard.tensors)
    problems += [f"tensor {name!r:.80} is there twice" for name in _twice(tensors)]
    return shards, shortened(problems)


def shortened(problems: Sequence[str]) -> list[str]:
    """The first of `problems`, and how many more there are."""
    if len(problems) <= SHOWN_PROBLEMS:
        return list(problems)
    return [*problems[:SHOWN_PROBLEMS], f"and {len(problems) - SHOWN_PROBLEMS} more problems"]


def _parse_shard(entry: Any, problems: list[str]) -> Shard | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("records"), list):
        problems.append(f"a shard is {_shown(entry)}, expected an object with a list of records")
        return None
    name: Any = entry.get("dataPath")
    nbytes: Any = entry.get("nbytes")
    md5: Any = entry.get("md5sum")
    if not is_file_name(name):
        problems.append(f"it names {_shown(name)}, expected a file beside the index")
        return None
    if not _is_count(nbytes) or not isinstance(md5, str | None):
        problems.append(f"{name} has nbytes {_shown(nbytes)} and md5sum {_shown(md5)}")
        return None
    tensors = (_parse_tensor(record, name, nbytes, problems) for record in entry["records"])
    return Shard(name, nbytes, md5, tuple(tensor for tensor in tensors if tensor))


def _parse_tensor(
    record: Any, shard: str, shard_bytes: int, problems: list[str]
) -> TensorRecord | None:
    fields: dict[str, Any] = record if isinstance(record, dict) else {}
    name = fields.get("name")
    if not isinstance(name, str):
        problems.append(f"a tensor of {shard} is {_shown(record)}, expected an object with a name")
        return None
    checks = (
        ("shape", _is_shape, "a list of positive integers"),
        ("dtype", DTYPES.__contains__, f"one of {', '.join(DTYPES)}"),
        ("format", FORMATS.__contains__, f"one of {', '.join(FORMATS)}"),
        ("nbytes", _is_count, "a number of bytes"),
        ("byteOffset", _is_count, "a number of bytes"),
    )
    wrong = [
        f"{field} is {_shown(fields.get(field))}, expected {expected}"
        for field, is_sane, expected in checks
        if not is_sane(fields.get(field))
    ]
    if wrong:
        problems.append(f"tensor {name!r:.80}: {'; '.join(wrong)}")
        return None
    shape, dtype, format, nbytes, offset = (fields[field] for field, *_ in checks)
    tensor = TensorRecord(name, tuple(shape), dtype, format, nbytes, offset)
    needed = math.prod(shape) * tensor.stored_dtype.itemsize
    if needed != nbytes:
        problems.append(f"tensor {name!r:.80} takes {nbytes} bytes, expected {needed} for {shape}")
        return None
    if offset + nbytes > shard_bytes:
        problems.append(f"tensor {name!r:.80} doesn't lie in the {shard_bytes} bytes of {shard}")
        return None
    return tensor


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_AXES
        and all(_is_count(extent) and extent > 0 for extent in value)
    )


def _shown(value: Any) -> str:
    """A few words for a value of any depth and length."""
    if isinstance(value, list) and len(value) <= MOST_AXES:
        return f"[{', '.join(map(_shown_scalar, value))}]"
    return _shown_scalar(value)


def _shown_scalar(value: Any) -> str:
    simple = isinstance(value, str | int | float | None)
    return f"{value!r:.80}" if simple else f"a {type(value).__name__}"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
