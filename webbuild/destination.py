"""Where a bundle goes: a folder that changes all at once, or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc_edge.bundle import LOCK_NAME, BundleLock, read_lock, verify
from mlc_edge.errors import BundleError, ConfigError


def check_destination(output: Path) -> None:
    """Raise ConfigError unless `output` is missing, empty, or a bundle."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder.")
    if output.is_dir() and any(output.iterdir()) and not (output / LOCK_NAME).is_file():
        raise ConfigError(
            f"--output {output} holds something other than a bundle (it has no {LOCK_NAME}): name "
            "a new or an empty folder."
        )


def find_same_build(output: Path, fingerprint: str) -> BundleLock | None:
    """The lock of `output` if it was built from the same inputs and is whole."""
    try:
        if read_lock(output).build_inputs != fingerprint:
            return None
        return verify(output)
    except BundleError:
        return None


def check_space(output: Path, needed: int) -> None:
    """Raise ConfigError unless `output`'s disk has `needed` free bytes."""
    parent = next(path for path in output.resolve().parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ConfigError(
            f"not enough disk space in {parent}: the bundle takes up to {_mebibytes(needed)}, and "
            f"{_mebibytes(free)} are free. Free some, or name an --output on another disk."
        )


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, which takes its place at the end, or disappears on an error.

    What an earlier, killed build has left there is removed, or put back if it was the bundle.
    Raises ConfigError while another process builds the same bundle.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    former = output.with_name(f".{output.name}.former")
    partial.mkdir(exist_ok=True)
    # The lock ends with the process, however that ends, so a killed build blocks no later one.
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
            f"another build of {output} is running: wait for it, or name another --output."
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
