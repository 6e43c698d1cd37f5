"""A folder that changes all at once, or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc_edge.errors import ConfigError


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, which takes its place at the end, or disappears on an error.

    What an earlier, killed process has left there is removed, or put back if it was the folder.
    Raises ConfigError while another process writes the same folder.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    former = output.with_name(f".{output.name}.former")
    partial.mkdir(exist_ok=True)
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


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            f"another process is writing {output}: wait for it, or name another folder."
        ) from None
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
