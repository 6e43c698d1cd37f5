"""Headers as the `gguf` package writes them, and as nobody should."""

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest

from mlc_edge.errors import CheckpointError
from tests.gguf.writing import finish, write_gguf
from webbuild.gguf.header import read_header

VALUES = {
    "uint8": 200,
    "int8": -100,
    "uint16": 60000,
    "int16": -30000,
    "uint32": 4_000_000_000,
    "int32": -2_000_000_000,
    "uint64": 1 << 63,
    "int64": -(1 << 62),
    "float32": 0.5,
    "float64": 0.1,
    "bool": True,
    "string": "Grüße \N{PARTY POPPER}",
}
STRING, ARRAY, UINT32 = 8, 9, 4
F32, Q4_0 = 0, 2


def test_every_type_of_metadata_is_read(tmp_path: Path):
    path = tmp_path / "values.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind, value in VALUES.items():
        getattr(writer, f"add_{kind}")(f"test.{kind}", value)
    writer.add_array("test.texts", ["a", "", "é"])
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_array("test.reals", [0.5, 1.5])
    writer.add_tensor("some", np.zeros((3, 2), np.float32))
    finish(writer)
    metadata = read_header(path).metadata
    assert {kind: metadata[f"test.{kind}"] for kind in VALUES} == VALUES
    assert metadata["test.bool"] is True
    assert metadata["test.texts"] == ["a", "", "é"]
    assert list(metadata["test.numbers"]) == [1, 2, 3]
    assert list(metadata["test.reals"]) == [0.5, 1.5]


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_tensors_lie_where_the_reference_finds_them(tmp_path: Path, alignment: int):
    path = tmp_path / "model.gguf"
    write_gguf(path, change=lambda writer: writer.add_custom_alignment(alignment))
    found = read_header(path).tensors
    expected = gguf.GGUFReader(path).tensors
    assert len(found) == len(expected)
    for tensor in expected:
        info = found[tensor.name]
        assert info.offset == tensor.data_offset
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert info.type_name == tensor.tensor_type.name


def text(content: str | bytes) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(content)) + content


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


def tensor(name: str, shape: tuple[int, ...] = (4,), kind: int = F32, offset: int = 0) -> bytes:
    extents = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + extents + struct.pack("<IQ", kind, offset)


def header(
    *parts: bytes, tensors: int = 0, entries: int = 0, magic: bytes = b"GGUF", version: int = 3
) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)


PADDING = bytes(256)
LONG = 1 << 62
HOSTILE: dict[str, tuple[bytes, str]] = {
    "another format": (header(magic=b"PK\3\4") + PADDING, "this is no GGUF file"),
    "nearly empty": (b"GGUF", "this is no GGUF file"),
    "too many entries": (
        header(entry("a", ARRAY, array(0, 1 << 20, bytes(1 << 20))), entries=(1 << 16) + 1),
        "the number of metadata entries is 65537, and there can be 65536 at most",
    ),
    "version 1": (header(version=1) + PADDING, "GGUF version is 1"),
    "version 4": (header(version=4) + PADDING, "GGUF version is 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + PADDING, "it is big-endian"),
    "huge number of tensors": (header(tensors=LONG) + PADDING, "the number of tensors is"),
    "huge number of entries": (header(entries=LONG) + PADDING, "the number of metadata entries is"),
    "long key": (header(struct.pack("<Q", LONG), entries=1) + PADDING, "the length of key 0 is"),
    "key of bytes": (header(text(b"\xff"), PADDING, entries=1), "key 0 is not UTF-8"),
    "long text": (
        header(entry("a", STRING, struct.pack("<Q", LONG)), PADDING, entries=1),
        "the length of 'a' is",
    ),
    "text of bytes": (
        header(entry("a", STRING, text(b"\xc3(")), PADDING, entries=1),
        "'a' is not UTF-8",
    ),
    "long array": (
        header(entry("a", ARRAY, array(UINT32, LONG)), PADDING, entries=1),
        "the length of 'a' is",
    ),
    "array that is a little too long": (
        header(entry("a", ARRAY, array(UINT32, 65)), PADDING, entries=1),
        "the length of 'a' is 65",
    ),
    "long array of texts": (
        header(entry("a", ARRAY, array(STRING, LONG)), PADDING, entries=1),
        "the length of 'a' is",
    ),
    "long element": (
        header(entry("a", ARRAY, array(STRING, 1, struct.pack("<Q", LONG))), PADDING, entries=1),
        "element 0 of 'a' reaches beyond",
    ),
    "element of bytes": (
        header(entry("a", ARRAY, array(STRING, 1, text(b"\xff"))), PADDING, entries=1),
        "element 0 of 'a' is not UTF-8",
    ),
    "nested arrays": (
        header(entry("a", ARRAY, array(ARRAY, 1, array(UINT32, 1))), PADDING, entries=1),
        "the elements of 'a' are arrays",
    ),
    "unknown type of value": (
        header(entry("a", 13, b""), PADDING, entries=1),
        "'a' has type number 13",
    ),
    "unknown type of elements": (
        header(entry("a", ARRAY, array(99, 1)), PADDING, entries=1),
        "the elements of 'a' has type number 99",
    ),
    "a key twice": (
        header(*[entry("a", STRING, text("b"))] * 2, PADDING, entries=2),
        "metadata has 'a' twice",
    ),
    "alignment 0": (
        header(entry("general.alignment", UINT32, bytes(4)), PADDING, entries=1),
        "general.alignment is 0",
    ),
    "alignment 24": (
        header(entry("general.alignment", UINT32, struct.pack("<I", 24)), PADDING, entries=1),
        "general.alignment is 24",
    ),
    "alignment in words": (
        header(entry("general.alignment", STRING, text("32")), PADDING, entries=1),
        "general.alignment is '32'",
    ),
    "a tensor twice": (
        header(tensor("t"), tensor("t", offset=32), PADDING, tensors=2),
        "tensor 't' is there twice",
    ),
    "no dimensions": (header(tensor("t", ()), PADDING, tensors=1), "'t' has 0 dimensions"),
    "five dimensions": (
        header(tensor("t", (1,) * 5), PADDING, tensors=1),
        "'t' has 5 dimensions",
    ),
    "no rows": (header(tensor("t", (32, 0)), PADDING, tensors=1), "'t' has dimensions [32, 0]"),
    "dimensions that overflow": (
        header(tensor("t", (1 << 33, 1 << 33)), PADDING, tensors=1),
        "expected 1099511627776 weights at most",
    ),
    "part of a block": (
        header(tensor("t", (33, 2), Q4_0), PADDING, tensors=1),
        "rows of 33 weights, expected a multiple of 32 for Q4_0",
    ),
    "blocks in one dimension": (
        header(tensor("t", (32,), Q4_0), PADDING, tensors=1),
        "'t' has one dimension and type Q4_0, expected floats",
    ),
    "between the places": (
        header(tensor("t", offset=8), PADDING, tensors=1),
        "'t' begins at byte 72, expected a multiple of 32",
    ),
    "beyond the end": (
        header(tensor("t", (1024,)), PADDING, tensors=1),
        "but the file has",
    ),
    "far beyond the end": (
        header(tensor("t", offset=LONG), PADDING, tensors=1),
        "but the file has",
    ),
    "an unknown type beyond the end": (
        header(tensor("t", (4,), 99, LONG), PADDING, tensors=1),
        "but the file has",
    ),
    "on each other": (
        header(tensor("one", (16,)), tensor("two", (4,), offset=32), PADDING, tensors=2),
        "tensors 'one' and 'two' lie on each other",
    ),
    "cut in an entry": (
        header(entry("a", UINT32, b"\1"), entries=1),
        "'a' reaches beyond the header's end",
    ),
}


@pytest.mark.parametrize(("content", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers_are_refused(tmp_path: Path, content: bytes, problem: str):
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert problem in str(error.value)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    "make", [Path.mkdir, Path.touch, lambda path: None], ids=["folder", "empty", "absent"]
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]):
    path = tmp_path / "model.gguf"
    make(path)
    with pytest.raises(CheckpointError, match=r"model\.gguf .*name a GGUF file"):
        read_header(path)


def test_no_cut_of_a_file_is_read(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path)
    content = path.read_bytes()
    header_bytes = min(info.offset for info in read_header(path).tensors.values())
    for length in (*range(0, header_bytes, 997), header_bytes, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_header(path)


def test_changed_bytes_give_no_other_error(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path)
    content = bytearray(path.read_bytes())
    header_bytes = min(info.offset for info in read_header(path).tensors.values())
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(300):
        changed = bytearray(content)
        changed[int(random.integers(0, header_bytes))] = int(random.integers(0, 256))
        path.write_bytes(changed)
        with suppress(CheckpointError):
            read_header(path)
            taken += 1
    assert 0 < taken < 300
