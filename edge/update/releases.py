"""Bundles on a device: numbered folders, and links that name the one in use and the one before.

Every step leaves a state that a power cut may freeze: `current` is replaced by a rename, and only after all
that it will name is on the disk. What an interrupted update left is removed when the next one begins.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlc_edge.bundle import LOCK_NAME, SIGNATURE_NAME, BundleLock, verify
from mlc_edge.errors import BundleError, ConfigError

CURRENT, PREVIOUS = "current", "previous"
INCOMING = ".incoming"
NEW_LINK = ".link"
RELEASE = re.compile(r"(\d+)-.+")
FOLDER_MODE, FILE_MODE = 0o755, 0o644

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Links:
    """Names of the folders in use and before; None: there is none."""

    current: str | None = None
    previous: str | None = None


class Releases:
    """The folder of bundles; `announce` is told of each step before it is done."""

    def __init__(self, folder: Path, announce: Announce) -> None:
        self.folder = folder
        self._announce = announce

    def links(self) -> Links:
        """What the links name now; a link to nothing counts as none."""
        return Links(self._target(CURRENT), self._target(PREVIOUS))

    def path(self, name: str) -> Path:
        """The folder of one release."""
        return self.folder / name

    def find(self, bundle: Path) -> str | None:
        """The linked release that is a whole copy of `bundle`."""
        wanted = signed_lock(bundle)
        links = self.links()
        for name in filter(None, (links.current, links.previous)):
            with suppress(BundleError, OSError):
                if signed_lock(self.path(name)) == wanted:
                    self._announce(f"verify {name}")
                    verify(self.path(name))
                    return name
        return None

    def copy(self, bundle: Path, lock: BundleLock) -> Path:
        """A copy of `bundle` under a temporary name, on the disk and verified; raises BundleError."""
        self._require_space(sum(file.bytes for file in lock.files))
        incoming = self.folder / INCOMING
        signature = [SIGNATURE_NAME] if (bundle / SIGNATURE_NAME).exists() else []
        for path in (*(file.path for file in lock.files), *signature, LOCK_NAME):
            self._announce(f"copy {path}")
            for parent in reversed(PurePosixPath(path).parents):
                _make_folder(incoming / parent)
            _copy_file(bundle / path, incoming / path)
        for folder in (incoming, *filter(Path.is_dir, incoming.rglob("*"))):
            _sync(folder)
        self._announce("verify the copy")
        verify(incoming)
        return incoming

    def adopt(self, incoming: Path, lock: BundleLock) -> str:
        """Give a copy its lasting name, which is returned."""
        numbers = [int(m[1]) for path in self.folder.iterdir() if (m := RELEASE.match(path.name))]
        name = f"{max(numbers, default=0) + 1}-{lock.model.id}"
        self._announce(f"name it {name}")
        incoming.rename(self.path(name))
        _sync(self.folder)
        return name

    def point(self, links: Links) -> None:
        """Set both links, `current` by a rename.

        Between the two, what neither link names is lost to a power cut: so a release that was
        `previous` becomes `current` first, any other only when `previous` has kept the one before it.
        """
        now = self.links()
        steps = [(PREVIOUS, links.previous, now.previous), (CURRENT, links.current, now.current)]
        if links.current == now.previous:
            steps.reverse()
        for link, name, before in steps:
            if name != before:
                self._announce(f"link {link} to {name or 'nothing'}")
                self._link(link, name)

    def clean(self) -> None:
        """Remove releases that no link names, and what an interrupted update left."""
        links = self.links()
        for path in sorted(self.folder.iterdir()):
            ours = RELEASE.fullmatch(path.name) or path.name in (INCOMING, NEW_LINK)
            if ours and path.name not in (links.current, links.previous):
                self._announce(f"remove {path.name}")
                _remove(path)
        _sync(self.folder)

    def _target(self, link: str) -> str | None:
        path = self.folder / link
        if not path.is_symlink():
            if path.exists():
                raise ConfigError(f"{path} is no link: move it away, then update again.")
            return None
        name = os.readlink(path)
        return name if RELEASE.fullmatch(name) and self.path(name).is_dir() else None

    def _link(self, link: str, name: str | None) -> None:
        path, new = self.folder / link, self.folder / NEW_LINK
        if name is None:
            path.unlink(missing_ok=True)
        else:
            new.unlink(missing_ok=True)
            new.symlink_to(name)
            new.rename(path)
        _sync(self.folder)

    def _require_space(self, wanted: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < wanted:
            raise BundleError(
                f"{self.folder} has {free >> 20} MiB free, the bundle needs {wanted >> 20} MiB: "
                "make room, or name another folder with --dir."
            )


def signed_lock(bundle: Path) -> tuple[bytes, bytes]:
    """What makes a bundle the same as another one: its lock, and its signature if it has one."""
    signature = bundle / SIGNATURE_NAME
    return (bundle / LOCK_NAME).read_bytes(), signature.read_bytes() if signature.exists() else b""


@contextmanager
def open_releases(folder: Path, announce: Announce) -> Iterator[Releases]:
    """The folder for one update at a time, cleaned before and after; raises ConfigError."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _locked(folder):
            releases = Releases(folder, announce)
            releases.clean()
            try:
                yield releases
            finally:
                releases.clean()
    except BlockingIOError as error:
        raise ConfigError(f"another update of {folder} runs: wait until it is done.") from error
    except OSError as error:
        raise ConfigError(
            f"can't update {folder}: {error}. Try sudo, or name another folder with --dir."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    # Whatever the umask says: another user runs the daemon.
    folder.chmod(FOLDER_MODE)


def _copy_file(source: Path, destination: Path) -> None:
    with source.open("rb") as reader, destination.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fchmod(writer.fileno(), FILE_MODE)
        os.fsync(writer.fileno())
        # What is verified next shall come from the disk.
        os.posix_fadvise(writer.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
