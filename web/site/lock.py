"""The site's own `mlc-lock.json`: every file of the folder, as Pyodide's lock has its packages."""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlc_edge.bundle import ABI_DATE, ABI_VERSION, LOCK_NAME, LockedFile, is_valid_id, parse_file
from mlc_edge.errors import ConfigError
from mlc_edge.files import FileState, hash_content, open_plain
from mlc_edge.lock_fields import LockReader, is_url_path, told
from mlc_edge.version import __version__

SITE_LOCK_VERSION = 1
BUNDLES = "bundles"
INDEX = f"{BUNDLES}/index.json"
# What a page can name with an integrity attribute.
SCRIPTED = (".js", ".css")


@dataclass(frozen=True)
class SiteLock:
    """`version` is mlc-edge's; paths are relative to the folder, which may lie anywhere."""

    files: tuple[LockedFile, ...]
    version: str = __version__
    abi_version: int = ABI_VERSION

    def to_json(self) -> str:
        """The file's text; the same site always gives the same text."""
        content = {
            "site_lock_version": SITE_LOCK_VERSION,
            "version": self.version,
            "abi": {"version": self.abi_version, "date": ABI_DATE},
            "files": [_entry(file) for file in sorted(self.files, key=lambda file: file.path)],
        }
        return json.dumps(content, indent=1) + "\n"


def integrity(file: LockedFile) -> str:
    """Its subresource integrity value (https://www.w3.org/TR/SRI/)."""
    return "sha256-" + base64.b64encode(bytes.fromhex(file.sha256)).decode()


def _entry(file: LockedFile) -> dict[str, Any]:
    entry = asdict(file)
    if PurePosixPath(file.path).suffix in SCRIPTED:
        entry["integrity"] = integrity(file)
    return entry


def lock_site(folder: Path) -> SiteLock:
    """Hash all files of a folder that has no lock yet."""
    return SiteLock(tuple(_locked(folder, path) for path in plain_files(folder)))


def plain_files(folder: Path) -> list[str]:
    """Paths of all files below a folder, sorted.

    Raises ConfigError for links, and for names that URLs can't carry.
    """
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{folder} holds {name!r}, which is no plain file: leave it out.")
        if not is_url_path(name):
            raise ConfigError(f"{folder} holds {name!r}, a name that URLs can't carry: rename it.")
        if path.is_file():
            found.append(name)
    return sorted(found)


def _locked(folder: Path, path: str) -> LockedFile:
    with open_plain(folder, path) as file:
        return LockedFile(path, FileState.of(file).size, hash_content(file))


def parse_site_lock(text: str, where: str) -> SiteLock:
    """Check a lock that was read at `where`; raises ConfigError that says all that is wrong."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where} is no JSON: {text.strip()[:60]!r}.") from None
    reader = LockReader()
    version = reader.get(content, "site_lock_version", int, "")
    if not reader.problems and version != SITE_LOCK_VERSION:
        raise ConfigError(
            f"{where} has site_lock_version {version}, this mlc-edge reads {SITE_LOCK_VERSION}."
        )
    lock = SiteLock(
        files=tuple(
            parse_file(reader, entry, f"files[{index}]")
            for index, entry in enumerate(reader.get(content, "files", list, ""))
        ),
        version=reader.name(content, "version", ""),
        abi_version=reader.get(reader.get(content, "abi", dict, ""), "version", int, "abi"),
    )
    if reader.problems:
        raise ConfigError(f"{where} is no site's lock: {told(reader.problems)}.")
    return lock


def read_site_lock(folder: Path) -> SiteLock | None:
    """The lock of a folder that `mlc-edge site` wrote; None of any other."""
    try:
        return parse_site_lock((folder / LOCK_NAME).read_text(encoding="utf-8"), str(folder))
    except (OSError, UnicodeDecodeError, ConfigError):
        return None


def bundle_folders(site: Path) -> tuple[Path, ...]:
    """The bundles of a folder that `mlc-edge site` wrote, in the order of its index.

    Raises ConfigError when it is none.
    """
    if read_site_lock(site) is None:
        raise ConfigError(f"{site} is no folder that `mlc-edge site` wrote.")
    try:
        index = json.loads((site / INDEX).read_text(encoding="utf-8"))
        ids = [entry["id"] for entry in index["bundles"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{site / INDEX} is damaged: {error}.") from error
    if not all(isinstance(id, str) and is_valid_id(id) for id in ids):
        raise ConfigError(f"{site / INDEX} names a model by what is no id.")
    return tuple(site / BUNDLES / id for id in ids)
