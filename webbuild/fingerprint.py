"""A hash of all that goes into a build, to tell whether a bundle is what a build would make."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

import mlc_edge.bundle
import mlc_edge.chat_template
import mlc_edge.cpu
import mlc_edge.cuda.driver
import mlc_edge.engine.control_tokens
import mlc_edge.engine.sampling_defaults
import mlc_edge.gguf_names
import mlc_edge.lock_fields
import mlc_edge.text_files
import mlc_edge.weight_index
from mlc_edge.files import hash_file
from mlc_edge.gguf_names import part_names
from webbuild.interleaved import FOLDER as INTERLEAVED

WHEELS = ("apache-tvm", "apache-tvm-ffi", "numpy")
SOURCES = Path(__file__).parent
# Modules of the room next door that shape what is written.
BORDERS = (
    mlc_edge.bundle,
    mlc_edge.chat_template,
    mlc_edge.cpu,
    mlc_edge.cuda.driver,
    mlc_edge.engine.control_tokens,
    mlc_edge.engine.sampling_defaults,
    mlc_edge.gguf_names,
    mlc_edge.lock_fields,
    mlc_edge.text_files,
    mlc_edge.weight_index,
)


def build_fingerprint(checkpoint: Path, options: Sequence[str]) -> str:
    """SHA-256 over the checkpoint's file or files, the options, versions, and this package's sources."""
    digest = hashlib.sha256("\0".join(options).encode())
    for wheel in WHEELS:
        digest.update(f"{wheel} {importlib.metadata.version(wheel)}\n".encode())
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    for path in _inputs(checkpoint):
        digest.update(f"{path.relative_to(folder)} {hash_file(path)}\n".encode())
    for path in (*_sources(), *(Path(str(module.__file__)) for module in BORDERS)):
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def _inputs(checkpoint: Path) -> list[Path]:
    if not checkpoint.is_dir():
        return [checkpoint.with_name(name) for name in part_names(checkpoint.name)]
    # A bundle has more in folders; a checkpoint's folders hold what is not read.
    return _files((*checkpoint.iterdir(), *(checkpoint / INTERLEAVED).glob("*")))


def _sources() -> list[Path]:
    patterns = ("*.py", "*.h", "calibration/*.md", "calibration/*.json")
    return _files(path for pattern in patterns for path in SOURCES.rglob(pattern))


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file())
