"""Reads the header of a GGUF file: metadata, and where its tensors lie.

Files come from strangers: every length, count, type and offset is held against the file's size before
anything is read or allocated by it. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md,
versions 2 and 3, little-endian.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError
from webbuild.gguf.blocks import BLOCK_TYPES, OTHER_TYPES, BlockType
from webbuild.gguf.mapped import MappedFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DOWNLOAD = "download the file again"
# The largest tokenizers take 40 MB.
MAX_HEADER_BYTES = 256_000_000
# Of tensors, and of metadata entries; models with 4096 layers have fewer.
MOST_ENTRIES = 1 << 16
# In a list: a vocabulary's tokens or merges.
MOST_TEXTS = 1 << 22
MAX_DIMENSIONS = 4
LARGEST_EXTENT = 1 << 40
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"
STRING, ARRAY, BOOL = 8, 9, 7
# NumPy's names of the numbers' types, by the format's.
NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    BOOL: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
# Bytes that an element takes at least.
LENGTH_BYTES = 8

Value = bool | int | float | str | list[str] | npt.NDArray[np.generic]


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `shape` with rows first, `offset` from the file's start."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int

    @property
    def type(self) -> BlockType | None:
        """How its weights are stored, None for a type that can't be read."""
        return BLOCK_TYPES.get(self.type_id)

    @property
    def type_name(self) -> str:
        """As files and tools call it."""
        name = OTHER_TYPES.get(self.type_id, f"number {self.type_id}")
        return self.type.name if self.type else name

    @property
    def row_bytes(self) -> int:
        """Bytes of one element of axis 0."""
        assert self.type, "only tensors that can be read have a size"
        columns = self.shape[-1] if len(self.shape) > 1 else 1
        inner = math.prod(self.shape[1:-1])
        return inner * columns // self.type.weights * self.type.bytes


@dataclass(frozen=True)
class GgufHeader:
    """A file's metadata and tensors by name."""

    data: MappedFile
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> GgufHeader:
    """Parse a file's header; raises CheckpointError that names the field that is not as it must be."""
    data = MappedFile.open(path)
    reader = _Reader(data)
    tensor_count, entry_count = reader.preamble()
    metadata: dict[str, Value] = {}
    for index in range(entry_count):
        key = reader.string(f"key {index}")
        if key in metadata:
            reader.refuse(f"metadata has {key!r:.80} twice")
        metadata[key] = reader.value(f"{key!r:.80}")
    infos = [reader.tensor(index) for index in range(tensor_count)]
    start = _aligned(reader.position, _alignment(reader, metadata))
    tensors: dict[str, TensorInfo] = {}
    for info in infos:
        if info.name in tensors:
            reader.refuse(f"tensor {info.name!r:.80} is there twice")
        placed = TensorInfo(info.name, info.shape, info.type_id, start + info.offset)
        tensors[info.name] = placed
    _check_places(reader, tensors, _alignment(reader, metadata))
    return GgufHeader(data, metadata, tensors)


def _alignment(reader: "_Reader", metadata: dict[str, Value]) -> int:
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    is_power = isinstance(alignment, int) and alignment > 0 and not alignment & (alignment - 1)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or not is_power:
        reader.refuse(f"{ALIGNMENT_KEY} is {alignment!r:.40}, expected a power of two")
    return alignment


def _aligned(position: int, alignment: int) -> int:
    return position + -position % alignment


def _check_places(reader: "_Reader", tensors: dict[str, TensorInfo], alignment: int) -> None:
    """Every tensor lies inside of the file, where it may begin, and on no other."""
    readable = [info for info in tensors.values() if info.type]
    size = reader.data.size
    for info in tensors.values():
        if info.offset % alignment:
            reader.refuse(
                f"tensor {info.name!r:.80} begins at byte {info.offset}, expected a multiple of {alignment}"
            )
        if info.offset > size:
            _refuse_cut(reader, info.name, info.offset)
    places = sorted((i.offset, i.offset + _bytes(reader, i), i.name) for i in readable)
    for _, end, name in places:
        if end > size:
            _refuse_cut(reader, name, end)
    for (_, end, former), (begin, _, latter) in pairwise(places):
        if begin < end:
            reader.refuse(f"tensors {former!r:.80} and {latter!r:.80} lie on each other")


def _bytes(reader: "_Reader", info: TensorInfo) -> int:
    assert info.type, "only of tensors that can be read"
    columns = info.shape[-1]
    if len(info.shape) == 1 and info.type.weights > 1:
        reader.refuse(
            f"tensor {info.name!r:.80} has one dimension and type {info.type.name}, expected floats"
        )
    if columns % info.type.weights:
        reader.refuse(
            f"tensor {info.name!r:.80} has rows of {columns} weights, expected a multiple of "
            f"{info.type.weights} for {info.type.name}"
        )
    return math.prod(info.shape) // info.type.weights * info.type.bytes


def _refuse_cut(reader: "_Reader", name: str, end: int) -> NoReturn:
    reader.refuse(
        f"tensor {name!r:.80} reaches to byte {end}, but the file has {reader.data.size}: it was cut off"
    )


class _Reader:
    """Takes one field after the other; `what` names it in errors."""

    def __init__(self, data: MappedFile) -> None:
        self.data = data
        self.position = 0
        self._end = min(data.size, MAX_HEADER_BYTES)

    def refuse(self, problem: str) -> NoReturn:
        raise CheckpointError(f"{self.data.path}: {problem}: {DOWNLOAD}.")

    def preamble(self) -> tuple[int, int]:
        """Numbers of tensors and of metadata entries."""
        if self.data.size < 24 or bytes(self._take(4, "the magic")) != MAGIC:
            raise CheckpointError(
                f"{self.data.path}: this is no GGUF file (it doesn't begin with 'GGUF'): name one, or the "
                "folder of a checkpoint."
            )
        version = self._number("<u4", "the version")
        if version not in VERSIONS:
            turned = int.from_bytes(int(version).to_bytes(4, "little"), "big") in VERSIONS
            raise CheckpointError(
                f"{self.data.path}: {'it is big-endian' if turned else f'GGUF version is {version}'}, and "
                f"only little-endian files of versions {VERSIONS[0]} and {VERSIONS[1]} are supported: "
                "convert the model anew with a current llama.cpp."
            )
        tensors = self._count("the number of tensors", LENGTH_BYTES + 4 + 8 + 4 + 8, MOST_ENTRIES)
        entries = self._count("the number of metadata entries", LENGTH_BYTES + 4 + 1, MOST_ENTRIES)
        return tensors, entries

    def string(self, what: str) -> str:
        length = self._count(f"the length of {what}", 1)
        content = self._take(length, what)
        try:
            return content.decode()
        except UnicodeDecodeError:
            self.refuse(f"{what} is not UTF-8")

    def value(self, what: str) -> Value:
        """A metadata value, after its type."""
        kind = int(self._number("<u4", f"the type of {what}"))
        if kind == STRING:
            return self.string(what)
        if kind == ARRAY:
            return self._array(what)
        return self._number(self._number_type(kind, what), what)

    def tensor(self, index: int) -> TensorInfo:
        """A tensor's name, shape, type and offset, the last from where the tensors begin."""
        name = self.string(f"the name of tensor {index}")
        what = f"tensor {name!r:.80}"
        dimensions = int(self._number("<u4", f"the number of dimensions of {what}"))
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            self.refuse(f"{what} has {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")
        extents = [int(self._number("<u8", f"the dimensions of {what}")) for _ in range(dimensions)]
        if not all(extents) or math.prod(extents) > LARGEST_EXTENT:
            self.refuse(
                f"{what} has dimensions {extents}, expected {LARGEST_EXTENT} weights at most"
            )
        kind = int(self._number("<u4", f"the type of {what}"))
        offset = int(self._number("<u8", f"the offset of {what}"))
        return TensorInfo(name, tuple(reversed(extents)), kind, offset)

    def _array(self, what: str) -> Value:
        kind = int(self._number("<u4", f"the type of the elements of {what}"))
        if kind == STRING:
            count = self._count(f"the length of {what}", LENGTH_BYTES, MOST_TEXTS)
            return self._strings(count, what)
        dtype = np.dtype(self._number_type(kind, f"the elements of {what}"))
        count = self._count(f"the length of {what}", dtype.itemsize)
        return np.frombuffer(self._take(count * dtype.itemsize, what), dtype)

    def _strings(self, count: int, what: str) -> list[str]:
        """Hundreds of thousands of tokens: `string` for each would take seconds."""
        read, position = self.data.read, self.position
        strings = []
        for index in range(count):
            length = int.from_bytes(read(position, LENGTH_BYTES), "little")
            position += LENGTH_BYTES
            if length > self._end - position:
                self.refuse(f"element {index} of {what} reaches beyond the header's end")
            try:
                strings.append(read(position, length).decode())
            except UnicodeDecodeError:
                self.refuse(f"element {index} of {what} is not UTF-8")
            position += length
        self.position = position
        return strings

    def _number_type(self, kind: int, what: str) -> str:
        if kind == ARRAY:
            self.refuse(f"{what} are arrays, which no field has")
        if kind not in NUMBERS:
            self.refuse(f"{what} has type number {kind}, which GGUF doesn't have")
        return NUMBERS[kind]

    def _count(self, what: str, least_bytes: int, most: int = MAX_HEADER_BYTES) -> int:
        """A number of things, each of `least_bytes` or more."""
        count = int(self._number("<u8", what))
        most = min(most, (self._end - self.position) // least_bytes)
        if count > most:
            self.refuse(f"{what} is {count}, and there can be {most} at most")
        return count

    def _number(self, dtype: str, what: str) -> bool | int | float:
        content = self._take(np.dtype(dtype).itemsize, what)
        if dtype == "?":
            return content != b"\0"
        number: int | float = np.frombuffer(content, dtype)[0].item()
        return number

    def _take(self, count: int, what: str) -> bytes:
        if count > self._end - self.position:
            self.refuse(f"{what} reaches beyond the header's end")
        content = self.data.read(self.position, count)
        self.position += count
        return content
