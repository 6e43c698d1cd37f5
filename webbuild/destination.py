"""Whether a folder can be where a bundle goes."""

import shutil
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
