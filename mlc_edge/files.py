"""Files that came from outside: plain ones, inside of their folder, and no larger than they may be.

Links, pipes and devices are refused. The Hub's cache alone consists of links, from its snapshots into the
`blobs` of the same repository: those are followed.
"""

import errno
import hashlib
import json
import os
import stat
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, NoReturn

READ_BYTES = 1 << 20
# No tokenizer or index comes near it: a larger file would be parsed until memory is full.
MAX_JSON_BYTES = 256 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Opening a pipe doesn't wait for its writer.
PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SNAPSHOTS, BLOBS, REPOSITORY = "snapshots", "blobs", "models--"

SECOND_NS = 10**9
# How long a file's time of change may stay the same while it is written to: a tick of the kernel's clock, or
# what a file system keeps that has whole seconds only (FAT: two).
TICK_NS, COARSE_TICK_NS = 50 * 10**6, 2 * SECOND_NS


class FileError(Exception):
    """A file can't be used; the text names it and says why."""


class FileState(NamedTuple):
    """What differs when a file was written to, or is another one; times in nanoseconds.

    `is_settled`: every write after this was taken changes it.
    """

    size: int
    modified: int
    changed: int
    inode: int
    device: int
    is_settled: bool = True

    @classmethod
    def of(cls, file: BinaryIO) -> "FileState":
        """The state of an open file."""
        status = os.fstat(file.fileno())
        changed = status.st_ctime_ns
        tick = TICK_NS if changed % SECOND_NS else COARSE_TICK_NS
        return cls(
            status.st_size,
            status.st_mtime_ns,
            changed,
            status.st_ino,
            status.st_dev,
            is_settled=time.time_ns() - changed > tick,
        )


def hub_repository(path: Path) -> Path | None:
    """The folder of the repository in a Hub's cache whose snapshot or blob `path` (resolved) is, or is in."""
    for folder in (path, *path.parents):
        repository = folder.parent.parent
        if folder.parent.name in (SNAPSHOTS, BLOBS) and repository.name.startswith(REPOSITORY):
            return repository
    return None


def leads_out(folder: Path, path: Path) -> bool:
    """Whether the existing `path`, links followed, lies neither in `folder` nor in the Hub's blobs for it."""
    home = folder.resolve()
    repository = hub_repository(home)
    places = [home, repository / BLOBS] if repository else [home]
    resolved = path.resolve()
    return not any(resolved.is_relative_to(place) for place in places)


def open_plain(folder: Path, path: str) -> BinaryIO:
    """Open the plain file at `path` (POSIX, relative) below `folder`; raises FileError."""
    try:
        handle = _open_below(folder, path)
        status = os.fstat(handle)
    except FileNotFoundError:
        raise FileError(f"{path} is missing") from None
    except OSError as error:
        raise FileError(f"{path} can't be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FileError(f"{path} is no plain file")
    return os.fdopen(handle, "rb")


def _open_below(folder: Path, path: str) -> int:
    *parents, name = PurePosixPath(path).parts
    with ExitStack() as stack:
        handle = os.open(folder, FOLDER)
        stack.callback(os.close, handle)
        for parent in parents:
            try:
                handle = os.open(parent, FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise FileError(f"{path} is behind a link, or behind a file") from None
            stack.callback(os.close, handle)
        try:
            return os.open(name, PLAIN, dir_fd=handle)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
    return os.open(_blob(folder, path), PLAIN)


def _blob(folder: Path, path: str) -> Path:
    """What a link of a snapshot names, if it is one of its repository's blobs."""
    repository = hub_repository(folder.resolve())
    target = Path(os.path.realpath(folder / path))
    if repository is None or target.parent != repository / BLOBS:
        raise FileError(f"{path} is a link: put the file itself there")
    return target


def locate_plain(folder: Path, path: str) -> Path:
    """Where the plain file at `path` below `folder` really is; raises FileError."""
    with open_plain(folder, path):
        return Path(os.path.realpath(folder / path))


def read_plain(folder: Path, path: str, most: int = MAX_JSON_BYTES) -> bytes:
    """The content of a plain file of at most `most` bytes; raises FileError."""
    with open_plain(folder, path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise FileError(f"{path} has more than {most} bytes")
    return content


def read_json(folder: Path, path: str) -> Any:
    """What the JSON file at `path` below `folder` holds; raises FileError."""
    try:
        return json.loads(read_plain(folder, path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON ({error})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def hash_content(file: BinaryIO) -> str:
    """SHA-256 of what is left of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(READ_BYTES))
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hash_content(file)


def write_json(path: Path, content: Any) -> None:
    """Write this user's file, and its folder if that is missing: a reader sees the old one or the new one.

    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
