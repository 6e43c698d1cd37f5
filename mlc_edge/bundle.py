"""The bundle contract: what `mlc-lock.json` says, and whether a folder keeps it.

A bundle is all that a build hands to browsers and devices. Only the standard library is used here,
so that everything that runs models can import it.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlc_edge.errors import BundleError
from mlc_edge.files import (
    FileError,
    FileState,
    hash_content,
    hub_repository,
    open_plain,
    read_json,
)
from mlc_edge.lock_fields import LockReader, told

LOCK_NAME = "mlc-lock.json"
SIGNATURE_NAME = "mlc-lock.json.sig"
LOCK_VERSION = 2
# Of version 1 targets have neither a device nor minima of adapters.
READABLE_VERSIONS = (1, LOCK_VERSION)
SHARED_LIBRARY, BROWSER_LIBRARY = ".so", ".wasm"
# What model libraries offer to engines; engines refuse a lock of another number.
ABI_VERSION, ABI_DATE = 3, "2026-11-21"
# The largest models that are published have some hundred.
MAX_FILES = 10_000
# Norms are no format to speak of.
SMALLEST_SHARE = 0.005
Device = Literal["cpu", "vulkan", "cuda", "webgpu", "wasm"]
BROWSER_DEVICES: tuple[Device, ...] = ("webgpu", "wasm")
REBUILD = "Build the bundle again with `mlc-edge build`, or download it again."


@dataclass(frozen=True)
class ModelInfo:
    """What the bundle holds; the context window is in tokens, `parameters` counts weights.

    `formats` says how many of them are in which format, as in {"q4": 106168320, "q8": 28311552}.
    """

    id: str
    model_type: str
    quantization: str
    context_window_size: int
    parameters: int
    formats: Mapping[str, int] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """The formats with their shares, for people: "q4 79%, q8 21%"."""
        total = sum(self.formats.values())
        shares = {name: count / total for name, count in self.formats.items() if count}
        shown = [f"{name} {share:.0%}" for name, share in shares.items() if share >= SMALLEST_SHARE]
        return ", ".join(shown) or self.quantization


@dataclass(frozen=True)
class LockedFile:
    """One file: POSIX path inside the bundle, size, and SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Needs:
    """What a device must offer: WebGPU features by name, and limits at least as large.

    `adapter` has minima of numbers that describe an adapter: WebGPU's `subgroupMinSize`, and `isSoftware`,
    which is 1 where a CPU stands in for the GPU, and else 0; CUDA's `computeCapability`, 87 for 8.7, and
    `cudaVersion` that the driver knows, 13000 for 13.0.
    """

    features: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    adapter: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BundleTarget:
    """A model library for a device, with its parameter set; `parameter_bytes` counts device memory."""

    device: Device
    library: str
    parameters: str
    parameter_bytes: int
    needs: Needs


@dataclass(frozen=True)
class BundleLock:
    """The content of `mlc-lock.json`.

    `build_inputs` is a hash of all that went into the build: the same hash means the same bundle.
    """

    model: ModelInfo
    files: tuple[LockedFile, ...]
    targets: Mapping[str, BundleTarget]
    abi_version: int = ABI_VERSION
    build_inputs: str = ""

    @property
    def runs_in_browsers(self) -> bool:
        """Whether there is a library for them."""
        return any(target.device in BROWSER_DEVICES for target in self.targets.values())

    def to_json(self) -> str:
        """The file's text; the same lock always gives the same text."""
        content = {
            "lock_version": LOCK_VERSION,
            "abi_version": self.abi_version,
            "build_inputs": self.build_inputs,
            "model": asdict(self.model),
            "files": [asdict(file) for file in sorted(self.files, key=lambda file: file.path)],
            "targets": {name: asdict(target) for name, target in self.targets.items()},
        }
        return json.dumps(content, indent=1) + "\n"


def parse_lock(content: Any) -> BundleLock:
    """Check parsed JSON and make a lock of it; raises BundleError that says all that is wrong."""
    reader = LockReader()
    version = reader.get(content, "lock_version", int, "")
    if not reader.problems and version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise BundleError(
            f"{LOCK_NAME} has lock_version {version}, this mlc-edge reads {readable}. {REBUILD}"
        )
    entries = reader.get(content, "files", list, "")
    if len(entries) > MAX_FILES:
        count = f"{LOCK_NAME} names {len(entries)} files"
        raise BundleError(f"{count}, and a bundle has at most {MAX_FILES}. {REBUILD}")
    files = tuple(
        parse_file(reader, entry, f"files[{index}]") for index, entry in enumerate(entries)
    )
    targets = {
        name: _parse_target(reader, entry, name, version)
        for name, entry in reader.get(content, "targets", dict, "").items()
    }
    if not targets:
        reader.problems.append("targets names none")
    lock = BundleLock(
        model=_parse_model(reader, reader.get(content, "model", dict, "")),
        files=files,
        targets=targets,
        abi_version=reader.get(content, "abi_version", int, ""),
        build_inputs=_parse_build_inputs(reader, content),
    )
    if not reader.problems:
        reader.problems += _contradictions(lock)
    if reader.problems:
        raise BundleError(f"{LOCK_NAME} is damaged: {told(reader.problems)}. {REBUILD}")
    return lock


def _parse_build_inputs(reader: LockReader, content: Any) -> str:
    if not isinstance(content, dict) or "build_inputs" not in content:
        return ""
    inputs: str = reader.get(content, "build_inputs", str, "")
    if not inputs.isprintable():
        reader.problems.append(f"build_inputs is {inputs!r:.80}, expected a hash")
    return inputs


def _parse_model(reader: LockReader, entry: Any) -> ModelInfo:
    model = ModelInfo(
        id=reader.name(entry, "id", "model"),
        model_type=reader.name(entry, "model_type", "model"),
        quantization=reader.name(entry, "quantization", "model"),
        context_window_size=reader.get(entry, "context_window_size", int, "model"),
        parameters=reader.get(entry, "parameters", int, "model"),
        formats=_parse_formats(reader, entry),
    )
    if model.id and not is_valid_id(model.id):
        reader.problems.append(f"model.id {model.id!r:.80} has characters that URLs can't carry")
    return model


def _parse_formats(reader: LockReader, entry: Any) -> dict[str, int]:
    if not isinstance(entry, dict) or "formats" not in entry:
        return {}
    return _parse_counts(reader, entry, "formats", "model")


def is_valid_id(name: str) -> bool:
    """Whether `name` can be a bundle's id: a folder name and a part of its URL."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None


def parse_file(reader: LockReader, entry: Any, where: str) -> LockedFile:
    """A file's entry in a lock; what is wrong with it is the reader's to tell."""
    file = LockedFile(
        path=reader.path(entry, "path", where),
        bytes=reader.get(entry, "bytes", int, where),
        sha256=reader.get(entry, "sha256", str, where),
    )
    if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
        reader.problems.append(f"{where}.sha256 is not 64 lower-case hexadecimal digits")
    return file


def _parse_target(reader: LockReader, entry: Any, name: str, version: int) -> BundleTarget:
    where = f"targets.{name}"
    reader.check_name(name, "a name in targets")
    library = reader.path(entry, "library", where)
    return BundleTarget(
        device=_device_by_name(name, library)
        if version == 1
        else _parse_device(reader, entry, where),
        library=library,
        parameters=reader.path(entry, "parameters", where),
        parameter_bytes=reader.get(entry, "parameter_bytes", int, where),
        needs=_parse_needs(reader, reader.get(entry, "needs", dict, where), f"{where}.needs"),
    )


def _parse_device(reader: LockReader, entry: Any, where: str) -> Device:
    known_problems = len(reader.problems)
    device: Any = reader.get(entry, "device", str, where)
    if len(reader.problems) == known_problems and device not in get_args(Device):
        known = ", ".join(get_args(Device))
        reader.problems.append(f"{where}.device is {device!r:.60}, expected one of {known}")
    found: Device = device
    return found


def _device_by_name(name: str, library: str) -> Device:
    if library.endswith(SHARED_LIBRARY):
        return "cpu"
    return "wasm" if name.startswith("wasm") else "webgpu"


def _parse_needs(reader: LockReader, needs: dict[str, Any], where: str) -> Needs:
    features = reader.get(needs, "features", list, where)
    for feature in features:
        reader.check_name(feature, f"a name in {where}.features")
    limits = _parse_counts(reader, needs, "limits", where)
    adapter = _parse_counts(reader, needs, "adapter", where) if "adapter" in needs else {}
    return Needs(tuple(features), limits, adapter)


def _parse_counts(
    reader: LockReader, source: dict[str, Any], field_name: str, where: str
) -> dict[str, int]:
    at = f"{where}.{field_name}"
    counts: dict[str, Any] = reader.get(source, field_name, dict, where)
    for name in counts:
        reader.check_name(name, f"a name in {at}")
    return {name: reader.get(counts, name, int, at) for name in counts}


def _contradictions(lock: BundleLock) -> list[str]:
    paths = Counter(file.path for file in lock.files)
    problems = [f"files names {path} twice" for path, count in paths.items() if count > 1]
    problems += [
        f"files names {name} itself" for name in (LOCK_NAME, SIGNATURE_NAME) if name in paths
    ]
    sizes: dict[str, int] = {}
    for file in lock.files:
        if sizes.setdefault(file.sha256, file.bytes) != file.bytes:
            problems.append(f"files names {file.path} with the sha256 of a file of another size")
    for name, target in lock.targets.items():
        for path in (target.library, target.parameters):
            if path not in paths:
                problems.append(f"targets.{name} names {path}, which files does not")
    return problems


def read_lock(folder: Path) -> BundleLock:
    """Read and check `folder`'s lock; raises BundleError."""
    if not (folder / LOCK_NAME).exists():
        raise BundleError(f"{folder} is not a bundle: it has no {LOCK_NAME}. {REBUILD}")
    try:
        content = read_json(folder, LOCK_NAME)
    except FileError as error:
        raise BundleError(f"{folder}: {error}. {REBUILD}") from error
    return parse_lock(content)


def write_lock(folder: Path, lock: BundleLock) -> None:
    """Write `lock` into `folder` so that a reader sees the old one or the new one, whole."""
    partial = folder / f"{LOCK_NAME}.partial"
    partial.write_text(lock.to_json(), encoding="utf-8")
    partial.replace(folder / LOCK_NAME)


def lock_files(
    folder: Path, states: MutableMapping[str, FileState] | None = None
) -> tuple[LockedFile, ...]:
    """Entries for every file of `folder` but the lock and its signature, sorted by path.

    `states` is told the state in which each file was hashed, if a later write would change that.
    """
    paths = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
    files = []
    for path in paths:
        if path not in (LOCK_NAME, SIGNATURE_NAME):
            state, digest = _hash(folder, path)
            files.append(LockedFile(path, state.size, digest))
            if states is not None and state.is_settled:
                states[path] = state
    return tuple(files)


def verify(folder: Path) -> BundleLock:
    """The lock of `folder`, once every file has the size and hash that it names.

    Raises BundleError that lists every file that is missing or differs.
    """
    lock = read_lock(folder)
    problems = differences(folder, lock.files, {})
    if problems:
        raise damaged(folder, problems.values())
    return lock


def damaged(folder: Path, problems: Iterable[str]) -> BundleError:
    """The error that says what is wrong with a bundle."""
    repository = hub_repository(folder.resolve())
    remedy = f"Delete {repository}, and it is downloaded again." if repository else REBUILD
    return BundleError(f"bundle {folder} is damaged: {told(problems)}. {remedy}")


def differences(
    folder: Path, files: Sequence[LockedFile], states: MutableMapping[str, FileState]
) -> dict[str, str]:
    """What is wrong with each of `files` that isn't what its entry says, by path.

    A file in the state that `states` has is not read again; what is read and right is put there, as
    `lock_files` does.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        largest_first = sorted(files, key=lambda file: -file.bytes)
        found = threads.map(lambda file: difference(folder, file, states), largest_first)
        return {
            file.path: problem
            for file, problem in zip(largest_first, found, strict=True)
            if problem
        }


def difference(
    folder: Path, file: LockedFile, states: MutableMapping[str, FileState] | None = None
) -> str | None:
    """What keeps `folder`'s file from being the one that a lock names; `states` as in `differences`."""
    states = {} if states is None else states
    try:
        with open_plain(folder, file.path) as content:
            state = FileState.of(content)
            if state.size != file.bytes:
                return f"{file.path} has {state.size} bytes, expected {file.bytes}"
            if states.pop(file.path, None) == state:
                states[file.path] = state
                return None
            digest = hash_content(content)
    except FileError as error:
        return str(error)
    except OSError as error:
        return f"{file.path} can't be read ({error.strerror})"
    if digest != file.sha256:
        return f"{file.path} has another SHA-256 than the lock says"
    if state.is_settled:
        states[file.path] = state
    return None


def _hash(folder: Path, path: str) -> tuple[FileState, str]:
    try:
        with open_plain(folder, path) as content:
            return FileState.of(content), hash_content(content)
    except FileError as error:
        raise BundleError(f"{folder}: {error}. {REBUILD}") from error
