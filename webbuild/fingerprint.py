"""A hash of all that goes into a build, to tell whether a bundle is what a build would make."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

import mlc_edge.bundle
from mlc_edge.files import hash_file

WHEELS = ("apache-tvm", "apache-tvm-ffi", "numpy")
SOURCES = Path(__file__).parent


def build_fingerprint(checkpoint: Path, options: Sequence[str]) -> str:
    """SHA-256 over the checkpoint's files, the options, versions, and this package's sources."""
    digest = hashlib.sha256("\0".join(options).encode())
    for wheel in WHEELS:
        digest.update(f"{wheel} {importlib.metadata.version(wheel)}\n".encode())
    for path in (*_files(checkpoint.iterdir()), *_sources(), Path(mlc_edge.bundle.__file__)):
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def _sources() -> list[Path]:
    return _files((*SOURCES.rglob("*.py"), *SOURCES.rglob("*.h")))


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file())
