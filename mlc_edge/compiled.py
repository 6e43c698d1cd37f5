"""Bundles that were compiled on this machine, kept in the user's cache until they are of no use.

Each lies in a folder of its own with a note of what it was made from. Two locks, which end with their
process: who compiles or removes holds that folder, all who use the bundle share its folder's. So what is in
use is never removed.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mlc_edge.bundle import ABI_VERSION
from mlc_edge.cpu import host_cpu
from mlc_edge.cuda.driver import CUDA_NATIVE, gpus
from mlc_edge.errors import BundleError, CheckpointError, ConfigError, MlcEdgeError
from mlc_edge.files import FOLDER, FileError, read_json
from mlc_edge.gguf_names import part_names
from mlc_edge.places import PACKAGES, bundles_folder, child_environment
from mlc_edge.verification import check_bundle
from mlc_edge.version import __version__

Progress = Callable[[str, float | None], None]
NATIVE = "native"
# Between targets that one bundle is compiled for.
SEPARATOR = ","
QUANTIZATION = "q4f16_1"
NOTE = "compiled-from.json"
KEY = re.compile(r"[0-9a-f]{16}")
REMOVED = ".removed-"
ERROR = "error: "


@dataclass(frozen=True)
class Note:
    """What a bundle was compiled from and for; `source` is a folder or a GGUF file."""

    name: str
    source: str
    target: str
    version: str


@dataclass(frozen=True)
class Compiled:
    """An entry of the cache: when it was last used (Unix time), and whether it would be used again."""

    folder: Path
    note: Note | None
    bytes: int
    used: float
    usable: bool


# Descriptors of the bundles that this process uses: they hold its locks until it ends.
_in_use: dict[Path, int] = {}


def compiled_bundle(
    source: Path,
    name: str,
    target: str,
    *,
    report: Progress,
    hint: str = "",
) -> Path:
    """The bundle that is made of `source` for `target`, compiled now if it isn't in the cache.

    `target` may be several, separated by commas: the bundle does without those after the first if they can't
    be compiled. `hint` ends the error if compiling fails. Raises MlcEdgeError.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "model"
    # What has formats already keeps them.
    keeps = source.is_file() or (source / "mlc-chat-config.json").is_file()
    quantized = [] if keeps else ["--quant", QUANTIZATION]
    folder = bundles_folder() / _key(source, target)
    output = folder / (name if keeps else f"{name}-{QUANTIZATION}")
    while not _take(output, report):
        with _alone(folder, report):
            # Another process may have made it meanwhile.
            if not _is_whole(output, report):
                purpose = target.replace(NATIVE, "this machine").replace(SEPARATOR, " and ")
                report(f"compiling {name} for {purpose} (once)", None)
                # Nobody would see what rounding did.
                options = [str(source), *quantized, "--no-measure", "--output", str(output)]
                _build_for(target.split(SEPARATOR), options, report, hint)
                # A build that makes no good bundle would otherwise be tried for ever.
                check_bundle(output, report)
            _write_note(folder, Note(name, str(source), target, __version__))
    return output


def list_compiled() -> list[Compiled]:
    """The cache's entries: first those that this version can't use, then by their last use."""
    root = bundles_folder()
    names = os.listdir(root) if root.is_dir() else []
    entries = [_describe(root / name) for name in names if _is_entry(root / name)]
    return sorted(entries, key=lambda entry: (entry.usable, entry.used))


def remove_compiled(entry: Compiled) -> bool:
    """Remove an entry; False while a process uses or compiles it. Raises ConfigError."""
    folder = entry.folder
    removed = folder.with_name(f"{REMOVED}{folder.name}")
    try:
        with ExitStack() as locks:
            if not (_hold(folder, locks) and all(_hold(path, locks) for path in _folders(folder))):
                return False
            shutil.rmtree(removed, ignore_errors=True)
            # Whoever looks for it from now on finds nothing, rather than a part.
            folder.rename(removed)
        shutil.rmtree(removed)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ConfigError(f"{folder} can't be removed: {error.strerror}.") from error
    return True


def remove_leftovers() -> None:
    """Remove what an interrupted removal left."""
    root = bundles_folder()
    for path in root.glob(f"{REMOVED}*") if root.is_dir() else ():
        if not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _is_entry(folder: Path) -> bool:
    return bool(KEY.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink()


def _describe(folder: Path) -> Compiled:
    note = _read_note(folder)
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    noted = folder / NOTE
    used = (noted if note else folder).lstat().st_mtime
    return Compiled(folder, note, size, used, note is not None and _would_use(folder, note))


def _read_note(folder: Path) -> Note | None:
    try:
        content = read_json(folder, NOTE)
        return Note(**{name: str(content[name]) for name in Note.__dataclass_fields__})
    except (FileError, KeyError, TypeError):
        return None


def _write_note(folder: Path, note: Note) -> None:
    partial = folder / f"{NOTE}.partial"
    partial.write_text(json.dumps(asdict(note), indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / NOTE)


def _would_use(folder: Path, note: Note) -> bool:
    with suppress(OSError):
        return _key(Path(note.source), note.target) == folder.name
    return False


def _folders(folder: Path) -> list[Path]:
    """The bundle, and what is being built beside it."""
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _hold(folder: Path, locks: ExitStack) -> bool:
    """Whether no other process has a lock on `folder`; then it is held as long as `locks`."""
    descriptor = os.open(folder, FOLDER | os.O_NOFOLLOW)
    locks.callback(os.close, descriptor)
    return _lock_alone(descriptor) and _is_same(folder, descriptor)


def _take(output: Path, report: Progress) -> bool:
    """Whether the bundle is whole; then it isn't removed before this process ends."""
    if output in _in_use and _is_same(output, _in_use[output]):
        return _is_whole(output, report)
    try:
        descriptor = os.open(output, FOLDER | os.O_NOFOLLOW)
    except OSError:
        return False
    with ExitStack() as closing:
        closing.callback(os.close, descriptor)
        _require_own(output, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not (_is_same(output, descriptor) and _is_whole(output, report)):
            return False
        closing.pop_all()
    former = _in_use.pop(output, None)
    if former is not None:
        os.close(former)
    _in_use[output] = descriptor
    with suppress(OSError):
        os.utime(output.parent / NOTE)
    return True


@contextmanager
def _alone(folder: Path, report: Progress) -> Iterator[None]:
    """Wait until no other process compiles into `folder`; the lock ends with its process."""
    while True:
        descriptor = _open_or_make(folder)
        try:
            _require_own(folder, descriptor)
            if not _lock_alone(descriptor):
                report("waiting for another process that compiles this model", None)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # What was removed while we waited is made anew.
            if _is_same(folder, descriptor):
                yield
                return
        finally:
            # Nothing stays of a build that failed.
            with suppress(OSError):
                folder.rmdir()
            os.close(descriptor)


def _open_or_make(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, FOLDER | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigError(
            f"compiled models can't be kept in {folder} ({error.strerror}): set MLC_EDGE_CACHE to a "
            "folder that can be written to, or name a bundle."
        ) from error


def _require_own(path: Path, descriptor: int) -> None:
    """Raise ConfigError for what another user, who isn't root, has made: it would run with our rights."""
    if os.fstat(descriptor).st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to another user, and is not used: set MLC_EDGE_CACHE to a folder of your own."
        )


def _lock_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether `path` still names what was opened."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _is_whole(bundle: Path, report: Progress) -> bool:
    """Whether a finished bundle is there and unchanged: builds appear all at once, or not at all."""
    try:
        check_bundle(bundle, report)
    except BundleError:
        return False
    return True


def _key(source: Path, target: str) -> str:
    """Changes with the source's files, the target, this package's version; with what "native" means here."""
    parts = [__version__, str(ABI_VERSION), target, str(source)]
    if NATIVE in target.split(SEPARATOR):
        cpu = host_cpu()
        parts += [cpu.arch, *sorted(cpu.features)]
    if target == CUDA_NATIVE:
        parts += [str(gpu.capability) for gpu in gpus()]
    for path in _files_of(source):
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _files_of(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(path for path in source.iterdir() if path.is_file())
    parts = (source.with_name(name) for name in part_names(source.name))
    return [source, *(path for path in parts if path != source and path.is_file())]


def _build_for(targets: Sequence[str], options: Sequence[str], report: Progress, hint: str) -> None:
    named = [word for target in targets for word in ("--target", target)]
    try:
        _build([*options, *named], report, hint)
    except CheckpointError as error:
        if len(targets) == 1:
            raise
        report(f"compiling for {targets[0]} alone: {error}", None)
        _build_for(targets[:1], options, report, hint)


def _build(arguments: Sequence[str], report: Progress, hint: str) -> None:
    """Compile in a child process: this one has loaded TVM's runtime without its compiler."""
    command = [sys.executable, "-m", "mlc_edge", "build", *arguments]
    with subprocess.Popen(
        command,
        cwd=PACKAGES,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line.rstrip())
            report(lines[-1], None)
    if child.returncode != 0:
        raise _failure(lines, hint)


def _failure(lines: Sequence[str], hint: str) -> MlcEdgeError:
    starts = [index for index, line in enumerate(lines) if line.startswith(ERROR)]
    told = lines[starts[-1] :] if starts else lines[-5:]
    what = "\n".join(told).removeprefix(ERROR)
    return CheckpointError(f"compiling the model failed: {what} {hint}".rstrip())
