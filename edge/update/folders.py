"""Folders whose path nobody else can exchange, and work in them by descriptor.

A folder is trusted when root or the caller owns it, nobody else may write to it, and it lies in such folders.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from mlc_edge.errors import BundleError, ConfigError

READ_BYTES = 1 << 20
FOLDER_MODE, FILE_MODE = 0o755, 0o644
PRIVATE_FOLDER_MODE, PRIVATE_FILE_MODE = 0o700, 0o600
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# A part of a path as it is: a link, too.
PART = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO doesn't wait for its writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The kernel's limit: path_resolution(7).
MAX_LINKS = 40


@contextmanager
def trusted_folder(path: Path) -> Iterator[int]:
    """A descriptor of `path`, which is made if it is missing; raises ConfigError if it isn't trusted.

    The caller's own folder is closed to other writers first.
    """
    with ExitStack() as stack:
        handle = os.open(".", FOLDER, dir_fd=_walk(path, stack))
        stack.callback(os.close, handle)
        status = os.fstat(handle)
        if status.st_uid == os.geteuid() and status.st_mode & WRITABLE_BY_OTHERS:
            os.fchmod(handle, stat.S_IMODE(status.st_mode) & ~WRITABLE_BY_OTHERS)
        _require_closed(os.fstat(handle), path)
        yield handle


def _walk(path: Path, stack: ExitStack) -> int:
    """A descriptor of `path`; each part is judged before the next one is looked up in it."""
    handle, seen, links = -1, Path("/"), 0
    pending = deque(path.parts)
    while pending:
        name = pending.popleft()
        part = _open_or_make(handle, name)
        stack.callback(os.close, part)
        status, place = os.fstat(part), seen / name
        if not _is_owner_trusted(status):
            raise ConfigError(
                f"{place} belongs to another user (number {status.st_uid}), who could exchange what "
                f"is updated: sudo chown root {place}, or name another folder with --dir."
            )
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise ConfigError(f"{path} has too many links: name another folder with --dir.")
            pending.extendleft(reversed(Path(os.readlink("", dir_fd=part)).parts))
            continue
        # In a folder like /tmp nobody can exchange what belongs to us.
        if pending and not status.st_mode & stat.S_ISVTX:
            _require_closed(status, place)
        handle, seen = part, place
    return handle


def _open_or_make(folder: int, name: str) -> int:
    try:
        return os.open(name, PART, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, PRIVATE_FOLDER_MODE, dir_fd=folder)
        made = os.open(name, FOLDER, dir_fd=folder)
        os.fchmod(made, FOLDER_MODE)
        return made


def _require_closed(status: os.stat_result, place: Path) -> None:
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise ConfigError(
            f"other users can write to {place}, and exchange what is updated: "
            f"sudo chmod go-w {place}, or name another folder with --dir."
        )


def _is_owner_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


@contextmanager
def any_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder that is only read."""
    handle = os.open(path, FOLDER & ~os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def open_below(folder: int, path: str, flags: int) -> int:
    """Open `path`, no part of which may be a link; a new file is for its owner alone."""
    *parents, name = PurePosixPath(path).parts
    with ExitStack() as stack:
        for parent in parents:
            folder = os.open(parent, FOLDER, dir_fd=folder)
            stack.callback(os.close, folder)
        return os.open(name, flags, PRIVATE_FILE_MODE, dir_fd=folder)


@contextmanager
def new_folder(folder: int, name: str, files: Sequence[str]) -> Iterator[int]:
    """A new folder with those that `files` need, for its owner alone. Raises FileExistsError."""
    os.mkdir(name, PRIVATE_FOLDER_MODE, dir_fd=folder)
    handle = os.open(name, FOLDER, dir_fd=folder)
    try:
        parents = {parent for file in files for parent in PurePosixPath(file).parents}
        for parent in sorted(parents - {PurePosixPath(".")}):
            os.mkdir(parent, PRIVATE_FOLDER_MODE, dir_fd=handle)
        yield handle
    finally:
        os.close(handle)


def open_plain(folder: int, path: str) -> int:
    """Open a file for reading; raises BundleError for links, pipes, devices and what is missing."""
    try:
        handle = open_below(folder, path, READ)
    except OSError as error:
        raise BundleError(
            f"can't read {path} ({error.strerror}): a bundle holds plain files, no links."
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"{path} is a pipe, device or folder: a bundle holds plain files.")
    return handle


def copy_file(source: int, target: int, path: str, *, size: int | None = None) -> None:
    """Copy the plain file `path` to the disk, at most `size` bytes; raises BundleError."""
    with open(open_plain(source, path), "rb") as reader:
        left = os.fstat(reader.fileno()).st_size if size is None else size
        with open(open_below(target, path, CREATE), "wb") as writer:
            while chunk := reader.read(READ_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise BundleError(f"{path} grew while it was copied: update again.")
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
            # What is verified next shall come from the disk.
            os.posix_fadvise(writer.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def publish(folder: int, name: str) -> None:
    """Let everyone read all of `name`, whatever the umask; it is on the disk afterwards."""
    for _, _, files, inner in os.fwalk(name, topdown=False, dir_fd=folder):
        for file in files:
            handle = os.open(file, READ, dir_fd=inner)
            try:
                os.fchmod(handle, FILE_MODE)
                os.fsync(handle)
            finally:
                os.close(handle)
        os.fchmod(inner, FOLDER_MODE)
        os.fsync(inner)


def require_own(folder: int, name: str) -> None:
    """Raise BundleError unless `name` holds plain files and folders that only we and root can change."""
    for place, folders, files, inner in os.fwalk(name, dir_fd=folder):
        for entry in (".", *folders, *files):
            status = os.stat(entry, dir_fd=inner, follow_symlinks=False)
            is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
            if not (is_plain and _is_owner_trusted(status)) or status.st_mode & WRITABLE_BY_OTHERS:
                raise BundleError(
                    f"{place}/{entry} is a link or could be changed by another user: "
                    "update to a bundle instead."
                )


def remove(folder: int, name: str) -> None:
    """Remove `name` and all below it; links are removed, never followed. Raises ConfigError."""
    if not is_folder(folder, name):
        os.unlink(name, dir_fd=folder)
        return
    try:
        for _, folders, files, inner in os.fwalk(name, topdown=False, dir_fd=folder):
            for entry in (*folders, *files):
                # Links to folders are among the folders.
                (os.rmdir if is_folder(inner, entry) else os.unlink)(entry, dir_fd=inner)
    except RecursionError as error:
        raise ConfigError(f"{name} has too many folders in folders: rm -rf it.") from error
    os.rmdir(name, dir_fd=folder)


def is_folder(folder: int, name: str) -> bool:
    """Whether `name` is a folder itself, and no link to one."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
