"""What is wrong inside a bundle's files though they have the right hashes: whoever made it made it so."""

import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mlc_edge.bundle import BROWSER_LIBRARY, SHARED_LIBRARY, BundleLock
from mlc_edge.files import FileError, open_plain, read_json
from mlc_edge.weight_index import parse_index

WASM_MAGIC = b"\0asm"
# elf(5), 64 bits, little endian: the file's header, and entries of its table of segments.
ELF_MAGIC = b"\x7fELF\x02\x01"
ELF_HEADER = struct.Struct("<16x16xQ14xHH6x")
ELF_SEGMENT = struct.Struct("<I4xQ16xQ16x")
PT_LOAD = 1


def content_problems(
    folder: Path, lock: BundleLock, damaged: Collection[str] = ()
) -> dict[str, str]:
    """What is wrong with each file's content, by path; files that are known as `damaged` are left out."""
    # The engine is loaded where a bundle is checked for the first time, not by all who read locks.
    from mlc_edge.engine.model_text import text_problems

    found = (
        *text_problems(folder, lock),
        *_index_problems(folder, lock),
        *_library_problems(folder, lock),
    )
    problems: dict[str, list[str]] = {}
    for path, problem in found:
        if path not in damaged:
            problems.setdefault(path, []).append(problem)
    return {path: f"{path}: {', '.join(texts)}" for path, texts in problems.items()}


def _index_problems(folder: Path, lock: BundleLock) -> Iterator[tuple[str, str]]:
    sizes = {file.path: file.bytes for file in lock.files}
    for index in sorted({target.parameters for target in lock.targets.values()}):
        try:
            shards, problems = parse_index(read_json(folder, index))
        except FileError as error:
            yield index, str(error)
            continue
        for problem in problems:
            yield index, problem
        for shard in shards:
            path = str(PurePosixPath(index).with_name(shard.name))
            if path not in sizes:
                yield index, f"it names {path}, which the lock doesn't"
            elif sizes[path] != shard.nbytes:
                yield index, f"{path} has {sizes[path]} bytes, expected {shard.nbytes}"


def _library_problems(folder: Path, lock: BundleLock) -> Iterator[tuple[str, str]]:
    checks = {SHARED_LIBRARY: _is_whole_elf, BROWSER_LIBRARY: _is_wasm}
    for library in sorted({target.library for target in lock.targets.values()}):
        is_sane = checks.get(PurePosixPath(library).suffix)
        if is_sane is None:
            yield library, "its name ends in neither .so nor .wasm"
            continue
        try:
            with open_plain(folder, library) as file:
                if not is_sane(file):
                    yield library, "it is no library, or a part of one"
        except FileError as error:
            yield library, str(error)


def _is_wasm(file: BinaryIO) -> bool:
    return file.read(len(WASM_MAGIC)) == WASM_MAGIC


def _is_whole_elf(file: BinaryIO) -> bool:
    """Whether all that the loader maps is there: it asks nothing, and a short file ends the program."""
    size = os.fstat(file.fileno()).st_size
    header = file.read(ELF_HEADER.size)
    if len(header) < ELF_HEADER.size or not header.startswith(ELF_MAGIC):
        return False
    table, entry_bytes, entries = ELF_HEADER.unpack(header)
    if entry_bytes != ELF_SEGMENT.size or table + entry_bytes * entries > size:
        return False
    file.seek(table)
    segments = ELF_SEGMENT.iter_unpack(file.read(entry_bytes * entries))
    loaded = [(offset, count) for kind, offset, count in segments if kind == PT_LOAD]
    return bool(loaded) and all(offset + count <= size for offset, count in loaded)
