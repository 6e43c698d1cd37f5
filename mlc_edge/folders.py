"""A folder that changes all at once, or not at all."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc_edge.errors import ConfigError


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, which takes its place at the end, or disappears on an error.

    What an earlier, killed process has left there is removed, or put back if it was the folder.
    Raises ConfigError while another process writes the same folder, and where something that isn't
    this user's own folder has that place.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    former = output.with_name(f".{output.name}.former")
    _require_own(former)
    _require_own(partial)
    # The lock ends with the process, however that ends, so a killed process blocks no later one.
    with _locked(partial, output):
        _clear(partial)
        _recover(former, output)
        try:
            yield partial
            if output.exists():
                output.rename(former)
            partial.rename(output)
        except BaseException:
            _recover(former, output)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(former, ignore_errors=True)


def _require_own(folder: Path) -> None:
    """If it is there: a link's target would be emptied, and another user could change what is written."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(
            f"{folder} is in the way: it is a link, a file or another user's folder. Remove it, or "
            "name another folder to write."
        )


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    busy = ConfigError(f"another process is writing {output}: wait for it, or name another folder.")
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileExistsError, FileNotFoundError):
        # Who has just finished has removed it in between.
        raise busy from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _require_own(folder)
        if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.lstat()):
            raise busy
        yield
    except BlockingIOError:
        raise busy from None
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _recover(former: Path, output: Path) -> None:
    if former.exists() and not output.exists():
        former.rename(output)
    shutil.rmtree(former, ignore_errors=True)
