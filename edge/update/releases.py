"""Bundles on a device: numbered folders, and links that name the one in use and the one before.

Every step leaves a state that a power cut may freeze: `current` is replaced by a rename, and only after all
that it will name is on the disk. What an interrupted update left is removed when the next one begins.
Often root works here for a daemon of fewer rights: only root and the caller may write to the folder.
"""

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.update.folders import (
    PRIVATE_FILE_MODE,
    any_folder,
    copy_file,
    is_folder,
    new_folder,
    publish,
    remove,
    require_own,
    trusted_folder,
)
from mlc_edge.bundle import LOCK_NAME, SIGNATURE_NAME, BundleLock, verify
from mlc_edge.errors import BundleError, ConfigError

CURRENT, PREVIOUS = "current", "previous"
INCOMING = ".incoming"
NEW_LINK = ".link"
IN_USE = ".lock"
RELEASE = re.compile(r"([0-9]+)-[A-Za-z0-9][A-Za-z0-9._-]*")

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Links:
    """Names of the folders in use and before; None: there is none."""

    current: str | None = None
    previous: str | None = None


class Releases:
    """The folder of bundles; `announce` is told of each step before it is done."""

    def __init__(self, folder: Path, handle: int, announce: Announce) -> None:
        """`handle`: a descriptor of `folder`, which nobody else can write to."""
        self.folder = folder
        self._handle = handle
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
                    self.verify(name)
                    return name
        return None

    def verify(self, name: str) -> None:
        """Raise BundleError unless the release is whole, and was not open to others."""
        self._announce(f"verify {name}")
        require_own(self._handle, name)
        verify(self.path(name))

    def copy(self, bundle: Path, lock: BundleLock) -> Path:
        """A copy of `bundle` under a temporary name, on the disk and verified; raises BundleError."""
        self._require_space(sum(file.bytes for file in lock.files))
        paths = [file.path for file in lock.files]
        with any_folder(bundle) as source, new_folder(self._handle, INCOMING, paths) as target:
            for file in lock.files:
                self._announce(f"copy {file.path}")
                copy_file(source, target, file.path, size=file.bytes)
            signature = [SIGNATURE_NAME] if SIGNATURE_NAME in os.listdir(source) else []
            for name in (*signature, LOCK_NAME):
                self._announce(f"copy {name}")
                copy_file(source, target, name)
        self._announce("verify the copy")
        if verify(self.path(INCOMING)) != lock:
            raise BundleError(f"{bundle} changed while it was copied: update again.")
        publish(self._handle, INCOMING)
        return self.path(INCOMING)

    def adopt(self, lock: BundleLock) -> str:
        """Give the copy its lasting name, which is returned."""
        numbers = [int(m[1]) for name in os.listdir(self._handle) if (m := RELEASE.match(name))]
        name = f"{max(numbers, default=0) + 1}-{lock.model.id}"
        self._announce(f"name it {name}")
        self._rename(INCOMING, name)
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
        for name in sorted(os.listdir(self._handle)):
            ours = RELEASE.fullmatch(name) or name in (INCOMING, NEW_LINK)
            if ours and name not in (links.current, links.previous):
                self._announce(f"remove {name}")
                remove(self._handle, name)
        os.fsync(self._handle)

    def _target(self, link: str) -> str | None:
        try:
            name = os.readlink(link, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.folder / link} is no link: move it away, then update again."
            ) from error
        return name if RELEASE.fullmatch(name) and is_folder(self._handle, name) else None

    def _link(self, link: str, name: str | None) -> None:
        if name is None:
            with suppress(FileNotFoundError):
                os.unlink(link, dir_fd=self._handle)
            os.fsync(self._handle)
        else:
            os.symlink(name, NEW_LINK, dir_fd=self._handle)
            self._rename(NEW_LINK, link)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        os.fsync(self._handle)

    def _require_space(self, wanted: int) -> None:
        status = os.fstatvfs(self._handle)
        free = status.f_bavail * status.f_frsize
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
        with trusted_folder(folder) as handle, _locked(handle):
            releases = Releases(folder, handle, announce)
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
def _locked(folder: int) -> Iterator[None]:
    """Hold a lock that only the owner can take: whoever may open the folder could lock that."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(IN_USE, flags, PRIVATE_FILE_MODE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ConfigError(f"{IN_USE} is no file: remove it, then update again.")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
