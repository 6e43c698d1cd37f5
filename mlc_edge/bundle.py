"""The bundle contract: what is in a folder that `mlc-edge build` makes. Standard library only."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlc_edge.errors import BundleError

LOCK_NAME = "mlc-lock.json"
LOCK_VERSION = 1
# Raised whenever a library of before can't be driven by the engines of now, or the reverse.
ABI_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LockedFile:
    """One file: `path` relative to the bundle with forward slashes, size, SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelInfo:
    """What model a bundle holds; `context_window_size` in tokens, `parameters` a count of weights."""

    id: str
    model_type: str
    quantization: str
    context_window_size: int
    parameters: int


@dataclass(frozen=True)
class Target:
    """One library of a bundle.

    `library` and `parameters` are paths in the bundle, `parameter_bytes` what the weights take in the
    device's memory, `needs` the features and limits that a device must offer.
    """

    library: str
    parameters: str
    parameter_bytes: int
    needs: dict[str, Any]


@dataclass(frozen=True)
class BundleLock:
    """A bundle's lock file; `build_id` identifies the inputs and options that it was built from."""

    model: ModelInfo
    files: tuple[LockedFile, ...]
    targets: dict[str, Target]
    build_id: str = ""
    abi_version: int = ABI_VERSION
    lock_version: int = LOCK_VERSION

    def to_json(self) -> str:
        """The lock file's text."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_lock(folder: Path) -> BundleLock:
    """Parse and validate `folder`'s lock.

    Raises BundleError that lists every problem: no lock, not JSON, fields missing or wrong, paths that
    lead out of the bundle, targets that name no file, another ABI.
    """
    path = folder / LOCK_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} is not a bundle: it has no {LOCK_NAME}. Make one with `mlc-edge build`."
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read: {error}. Build or download it again.") from error
    problems = _problems(content)
    if problems:
        raise BundleError(f"{path}: {'; '.join(problems)}. Build or download the bundle again.")
    return BundleLock(
        model=ModelInfo(**{name: content["model"][name] for name in _MODEL_FIELDS}),
        files=tuple(LockedFile(f["path"], f["bytes"], f["sha256"]) for f in content["files"]),
        targets={
            name: Target(**{field: target[field] for field in _TARGET_FIELDS})
            for name, target in content["targets"].items()
        },
        build_id=content.get("build_id", ""),
    )


_MODEL_FIELDS: dict[str, type] = {
    "id": str,
    "model_type": str,
    "quantization": str,
    "context_window_size": int,
    "parameters": int,
}
_FILE_FIELDS: dict[str, type] = {"path": str, "bytes": int, "sha256": str}
_TARGET_FIELDS: dict[str, type] = {
    "library": str,
    "parameters": str,
    "parameter_bytes": int,
    "needs": dict,
}


def _problems(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["expected a JSON object"]
    if content.get("lock_version") != LOCK_VERSION:
        return [f"lock_version is {content.get('lock_version')!r}, expected {LOCK_VERSION}"]
    if content.get("abi_version") != ABI_VERSION:
        return [
            f"the bundle has ABI {content.get('abi_version')!r} and this mlc-edge has {ABI_VERSION}"
        ]
    problems = _field_problems("model", content.get("model"), _MODEL_FIELDS)
    files, targets = content.get("files"), content.get("targets")
    if not isinstance(files, list) or not isinstance(targets, dict):
        return [*problems, "files must be a list and targets an object"]
    for index, file in enumerate(files):
        problems += _file_problems(f"files[{index}]", file)
    known = {file.get("path") for file in files if isinstance(file, dict)}
    for name, target in targets.items():
        problems += _field_problems(f"targets.{name}", target, _TARGET_FIELDS)
        if isinstance(target, dict):
            problems += [
                f"targets.{name}.{field} names {target[field]!r}, which is not among the files"
                for field in ("library", "parameters")
                if field in target and target[field] not in known
            ]
    return problems


def _field_problems(where: str, value: Any, fields: dict[str, type]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} must be an object"]
    return [
        f"{where}.{name} is {value.get(name)!r}, expected {kind.__name__}"
        for name, kind in fields.items()
        if not isinstance(value.get(name), kind) or isinstance(value.get(name), bool)
    ]


def _file_problems(where: str, file: Any) -> list[str]:
    problems = _field_problems(where, file, _FILE_FIELDS)
    if problems:
        return problems
    path = PurePosixPath(file["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in file["path"] or str(path) == ".":
        problems.append(f"{where}.path {file['path']!r} leads out of the bundle")
    if not _SHA256.fullmatch(file["sha256"]):
        problems.append(f"{where}.sha256 is not 64 hexadecimal digits")
    return problems


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_lock(
    folder: Path, model: ModelInfo, targets: dict[str, Target], *, build_id: str
) -> BundleLock:
    """Hash every file in `folder` and write its lock."""
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    )
    files = tuple(
        LockedFile(path, (folder / path).stat().st_size, hash_file(folder / path)) for path in paths
    )
    lock = BundleLock(model=model, files=files, targets=targets, build_id=build_id)
    partial = folder / f"{LOCK_NAME}.partial"
    partial.write_text(lock.to_json(), encoding="utf-8")
    os.replace(partial, folder / LOCK_NAME)
    return lock


def verify(folder: Path, paths: Sequence[str] | None = None) -> BundleLock:
    """Check the files (or only `paths`) against the lock; raises BundleError that lists the wrong."""
    lock = read_lock(folder)
    problems = []
    for file in lock.files:
        if paths is not None and file.path not in paths:
            continue
        path = folder / file.path
        if not path.is_file():
            problems.append(f"{file.path} is missing")
        elif path.stat().st_size != file.bytes:
            problems.append(f"{file.path} has {path.stat().st_size} bytes, expected {file.bytes}")
        elif hash_file(path) != file.sha256:
            problems.append(f"{file.path} has another content than the lock says")
    if problems:
        raise BundleError(
            f"bundle {folder} is damaged: {'; '.join(problems)}. Build or download it again."
        )
    return lock
