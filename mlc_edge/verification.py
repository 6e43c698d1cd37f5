"""Whether a bundle is what its lock says, and can be used: found out once for each state of its files.

A record in this user's own files notes the states in which files had the right hashes. A record that is
missing, damaged, or open to other users is as good as none: all is read again.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, BundleLock, damaged, differences, read_lock
from mlc_edge.contents import content_problems
from mlc_edge.files import FileError, FileState, read_plain, write_json
from mlc_edge.places import records_folder
from mlc_edge.version import __version__

Progress = Callable[[str, float | None], None]
MOST_RECORDS = 64
MAX_RECORD_BYTES = 4 << 20
# Takes long enough on small boards that people want to know.
LONG_READ_BYTES = 256 << 20


@dataclass
class Record:
    """States of files whose hashes were right, by path; the version whose checks the contents passed."""

    states: dict[str, FileState] = field(default_factory=dict)
    checked_by: str = ""


def check_bundle(folder: Path, report: Progress | None = None) -> BundleLock:
    """The lock of `folder`, once all that it names is whole, unchanged, and makes sense.

    Sizes are compared each time; what is new or changed is read. Raises BundleError that lists all problems.
    """
    lock = read_lock(folder)
    path = _record_path(folder)
    record = _read_record(path)
    before = Record(dict(record.states), record.checked_by)
    unread = sum(file.bytes for file in lock.files if file.path not in record.states)
    if report and unread > LONG_READ_BYTES:
        report("checking the model's files", None)
    problems = differences(folder, lock.files, record.states)
    if problems or record.checked_by != __version__:
        problems |= content_problems(folder, lock, problems)
    if problems:
        raise damaged(folder, problems.values())
    record.checked_by = __version__
    if record != before:
        _write_record(path, record)
    return lock


def check_weights(folder: Path, lock: BundleLock) -> None:
    """Raise BundleError unless all files but the libraries are what `lock` says: those are not used."""
    libraries = {target.library for target in lock.targets.values()}
    files = [file for file in lock.files if file.path not in libraries]
    if problems := differences(folder, files, {}):
        raise damaged(folder, problems.values())


def remember(folder: Path, states: dict[str, FileState]) -> None:
    """Note that the files of a new bundle, in these states, have the hashes that its lock names."""
    _write_record(_record_path(folder), Record(states))


def _record_path(folder: Path) -> Path:
    """Of this lock in this folder, wherever that is moved."""
    status = os.stat(folder)
    content = read_plain(folder, LOCK_NAME)
    key = f"{status.st_dev} {status.st_ino}\n".encode() + content
    return records_folder() / f"{hashlib.sha256(key).hexdigest()[:32]}.json"


def _read_record(path: Path) -> Record:
    try:
        status = os.lstat(path)
        others = stat.S_IWGRP | stat.S_IWOTH
        if status.st_uid != os.geteuid() or status.st_mode & others:
            return Record()
        content: Any = json.loads(read_plain(path.parent, path.name, MAX_RECORD_BYTES))
        states = {name: _parse_state(state) for name, state in content["files"].items()}
        return Record(states, str(content["checked_by"]))
    except (OSError, FileError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Record()


def _parse_state(numbers: Any) -> FileState:
    size, modified, changed, inode, device = map(int, numbers)
    return FileState(size, modified, changed, inode, device)


def _write_record(path: Path, record: Record) -> None:
    """Best effort: without the record, the files are read again next time."""
    content = {
        "checked_by": record.checked_by,
        "files": {name: state[:-1] for name, state in sorted(record.states.items())},
    }
    with suppress(OSError):
        write_json(path, content)
        _forget_oldest(path.parent)


def _forget_oldest(folder: Path) -> None:
    records = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in records[:-MOST_RECORDS]:
        path.unlink(missing_ok=True)
