"""Bundle folders as the host sees them: what their lock names, and nothing else."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from mlc_edge.bundle import LOCK_NAME, BundleLock
from mlc_edge.errors import BundleError, ConfigError
from mlc_edge.files import FileError, locate_plain
from mlc_edge.verification import check_bundle
from web.content import IMMUTABLE, REVALIDATE, ServedFile

# A bundle that was replaced by a damaged one is read again no sooner: that may be gigabytes.
RETRY_S = 2.0


@dataclass(frozen=True)
class _Snapshot:
    version: tuple[int, int, int]
    lock: BundleLock
    files: dict[str, str]


class ServedBundle:
    """One bundle; a rebuilt one is noticed by its lock, which is written last."""

    def __init__(self, root: Path) -> None:
        """Raises BundleError that lists all that is missing, damaged, or makes no sense."""
        self.root = root.resolve()
        self._guard = Lock()
        self._next_read = 0.0
        self._snapshot = self._read()
        self.id = self._snapshot.lock.model.id

    @property
    def lock(self) -> BundleLock:
        """What the folder holds now."""
        return self._current().lock

    def summary(self) -> dict[str, Any]:
        """The bundle's entry in index.json; `bytes` counts every file but the lock."""
        lock = self.lock
        return {
            "id": self.id,
            "url": f"bundles/{self.id}/",
            "bytes": sum(file.bytes for file in lock.files),
            "model_type": lock.model.model_type,
            "quantization": lock.model.quantization,
            "context_window_size": lock.model.context_window_size,
        }

    def find(self, path: str, sha256: str | None) -> ServedFile | None:
        """The file at `path`; None when no lock names it, or it isn't the one with `sha256`."""
        if path == LOCK_NAME:
            return self._served(path, REVALIDATE)
        actual = self._current().files.get(path)
        if actual is None or sha256 not in (None, actual):
            return None
        return self._served(path, IMMUTABLE if sha256 else REVALIDATE, actual)

    def _served(
        self, path: str, cache_control: str, sha256: str | None = None
    ) -> ServedFile | None:
        try:
            return ServedFile(locate_plain(self.root, path), path, cache_control, sha256)
        except FileError:
            return None

    def _current(self) -> _Snapshot:
        with self._guard:
            now = time.monotonic()
            if _version(self.root) != self._snapshot.version and now >= self._next_read:
                # While it is being rebuilt, the last lock stays until a whole one is there.
                try:
                    self._snapshot = self._read()
                except BundleError:
                    self._next_read = now + RETRY_S
            return self._snapshot

    def _read(self) -> _Snapshot:
        version = _version(self.root)
        lock = check_bundle(self.root)
        return _Snapshot(version, lock, {file.path: file.sha256 for file in lock.files})


def index_of(bundles: Iterable[ServedBundle]) -> dict[str, Any]:
    """The content of `bundles/index.json`; the page takes the first one unless it is told otherwise."""
    return {"bundles": [bundle.summary() for bundle in bundles]}


def open_bundles(roots: Sequence[Path]) -> dict[str, ServedBundle]:
    """Bundles by id. Raises BundleError, or ConfigError when two have the same id."""
    bundles: dict[str, ServedBundle] = {}
    for root in roots:
        bundle = ServedBundle(root)
        if bundle.id in bundles:
            raise ConfigError(
                f"{bundles[bundle.id].root} and {bundle.root} are both named {bundle.id!r}: "
                "name only one of them."
            )
        bundles[bundle.id] = bundle
    return bundles


def _version(root: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(root / LOCK_NAME)
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
