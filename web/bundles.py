"""Bundle folders as the host sees them: what their lock names, and nothing else."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from mlc_edge.bundle import LOCK_NAME, BundleLock, read_lock
from mlc_edge.errors import BundleError, ConfigError
from web.content import IMMUTABLE, REVALIDATE, ServedFile, resolve_inside


@dataclass(frozen=True)
class _Snapshot:
    version: tuple[int, int, int]
    lock: BundleLock
    files: dict[str, str]


class ServedBundle:
    """One bundle; a rebuilt one is noticed by its lock, which is written last."""

    def __init__(self, root: Path) -> None:
        """Raises BundleError when the lock or a file that it names is missing or damaged."""
        self.root = root.resolve()
        self._guard = Lock()
        self._snapshot = self._read()
        self.id = self._snapshot.lock.model.id

    def summary(self) -> dict[str, Any]:
        """The bundle's entry in index.json; `bytes` counts every file but the lock."""
        lock = self._current().lock
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
            resolved = resolve_inside(self.root, path)
            return ServedFile(resolved, path, REVALIDATE) if resolved else None
        actual = self._current().files.get(path)
        if actual is None or sha256 not in (None, actual):
            return None
        resolved = resolve_inside(self.root, path)
        if resolved is None:
            return None
        return ServedFile(resolved, path, IMMUTABLE if sha256 else REVALIDATE, sha256=actual)

    def _current(self) -> _Snapshot:
        with self._guard:
            if _version(self.root) != self._snapshot.version:
                # While it is being rebuilt, the last lock stays until a whole one is there.
                with suppress(BundleError):
                    self._snapshot = self._read()
            return self._snapshot

    def _read(self) -> _Snapshot:
        version = _version(self.root)
        lock = read_lock(self.root)
        problems = [
            f"{file.path}: {problem}"
            for file in lock.files
            if (problem := _problem(self.root, file.path, file.bytes))
        ]
        if problems:
            raise BundleError(
                f"bundle {self.root} is damaged: {'; '.join(problems)}. Build or download it again."
            )
        return _Snapshot(version, lock, {file.path: file.sha256 for file in lock.files})


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


def _problem(root: Path, path: str, size: int) -> str | None:
    resolved = resolve_inside(root, path)
    if resolved is None:
        return "missing, hidden, or a link out of the bundle"
    actual = resolved.stat().st_size
    return None if actual == size else f"{actual} bytes, the lock says {size}"


def _version(root: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(root / LOCK_NAME)
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
