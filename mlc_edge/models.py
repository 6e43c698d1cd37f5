"""From what a person calls a model to a bundle that this machine can run."""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from mlc_edge.bundle import LOCK_NAME, read_lock
from mlc_edge.cpu import host_cpu
from mlc_edge.downloads import HUB_PREFIX, download, parse_repository
from mlc_edge.errors import BundleError, CheckpointError, ConfigError, MlcEdgeError
from mlc_edge.version import __version__

Progress = Callable[[str, float | None], None]
PACKAGE = Path(__file__).parent
# The embedded checkpoint: in a checkout, or as data of an installed package.
EMBEDDED = (PACKAGE.parent / "models/pocket", PACKAGE / "pocket")
QUANTIZATION = "q4f16_1"
WEIGHT_INDEXES = ("mlc-chat-config.json", "config.json")


def resolve_model(
    model: str | Path | None = None,
    *,
    target: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The bundle folder of `model`, downloaded and compiled first if need be.

    `model` is a bundle, a folder with a Hugging Face checkpoint or MLC weights, "HF://owner/name"
    (with "@revision" if wanted), or None for the embedded model. Checkpoints are compiled once, for
    `target` (default: this machine), and kept in the user's cache. Raises MlcEdgeError.
    """
    report = progress or (lambda step, share: None)
    folder, name = _find(model, report)
    if (folder / LOCK_NAME).is_file():
        return folder
    if not any((folder / name).is_file() for name in WEIGHT_INDEXES):
        raise ConfigError(
            f"{folder} is neither a bundle (no {LOCK_NAME}) nor a checkpoint (no config.json): "
            "name one of them, or HF://owner/name."
        )
    return _compiled(folder, name, target or "native", report)


def _find(model: str | Path | None, report: Progress) -> tuple[Path, str]:
    """The model's folder, and what to call what is made of it."""
    if model is None:
        embedded = _embedded()
        return embedded, embedded.name
    if str(model).startswith(HUB_PREFIX):
        repository = parse_repository(str(model))
        return download(repository, report), repository.name
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}: name a bundle, a checkpoint folder, HF://owner/name, or "
            "nothing for the embedded model."
        )
    folder = folder.resolve()
    return folder, folder.name


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError("this installation lacks the embedded model: name another one.")


def bundles_folder() -> Path:
    """Where compiled checkpoints are kept: `$MLC_EDGE_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("MLC_EDGE_CACHE")
    base = Path(chosen) if chosen else user_cache_path("mlc-edge")
    return base / "bundles"


def _compiled(checkpoint: Path, name: str, target: str, report: Progress) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "model"
    published = (checkpoint / "mlc-chat-config.json").is_file()
    quantized = [] if published else ["--quant", QUANTIZATION]
    suffix = "" if published else f"-{QUANTIZATION}"
    output = bundles_folder() / _key(checkpoint, target) / f"{name}{suffix}"
    if _is_whole(output):
        return output
    with _alone(output.parent, report):
        # Another process may have made it meanwhile.
        if not _is_whole(output):
            report(f"compiling {name} for this machine (once)", None)
            options = ["--target", target, *quantized, "--output", str(output)]
            _build([str(checkpoint), *options], report)
    return output


@contextmanager
def _alone(folder: Path, report: Progress) -> Iterator[None]:
    """Wait until no other process compiles into `folder`; the lock ends with its process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(
            f"compiled models can't be kept in {folder} ({error.strerror}): set MLC_EDGE_CACHE to a "
            "folder that can be written to, or name a bundle."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that compiles this model", None)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_whole(bundle: Path) -> bool:
    """Whether a finished bundle is there: builds appear all at once, or not at all."""
    try:
        lock = read_lock(bundle)
    except BundleError:
        return False
    return all((bundle / file.path).is_file() for file in lock.files)


def _key(checkpoint: Path, target: str) -> str:
    """Changes with the checkpoint's files, the CPU, the target and this package's version."""
    cpu = host_cpu()
    parts = [__version__, target, cpu.arch, *sorted(cpu.features), str(checkpoint)]
    for path in sorted(path for path in checkpoint.iterdir() if path.is_file()):
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(arguments: Sequence[str], report: Progress) -> None:
    """Compile in a child process: this one has loaded TVM's runtime without its compiler."""
    command = [sys.executable, "-m", "mlc_edge", "build", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line.rstrip())
            report(lines[-1], None)
    if child.returncode == 0:
        return
    raise _failure(lines)


def _failure(lines: Sequence[str]) -> MlcEdgeError:
    last = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    what = last.removeprefix("error: ") or "\n".join(lines[-5:])
    return CheckpointError(f"compiling the model failed: {what}")
