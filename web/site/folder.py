"""Writes a site: page, scripts, workers and bundles, with a lock of all."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from starlette.responses import JSONResponse

from mlc_edge.bundle import LOCK_NAME
from mlc_edge.errors import ConfigError
from mlc_edge.folders import replacing
from web.bundles import ServedBundle, index_of, open_bundles
from web.host import NOT_SERVED, STATIC, require_page
from web.site.headers import HEADERS_NAME, headers_file
from web.site.lock import BUNDLES, INDEX, SiteLock, lock_site, plain_files, read_site_lock
from web.site.wheel import write_wheel


def write_site(
    output: Path, bundles: Sequence[Path], *, static: Path = STATIC, at: str = "/"
) -> SiteLock:
    """Write the folder `output`, all at once; `at` is the path of its address, for `_headers`.

    Raises ConfigError when `output` holds something else or the disk is full; BundleError when a bundle
    is damaged.
    """
    require_page(static)
    _check_output(output)
    served = open_bundles(bundles)
    try:
        with replacing(output) as folder:
            _copy_app(static, folder)
            write_wheel(folder / "dist")
            for bundle in served.values():
                _copy_bundle(bundle, folder / BUNDLES / bundle.id)
            # The very bytes that our host sends, which the lock holds it to.
            (folder / INDEX).write_bytes(JSONResponse(index_of(served.values())).body)
            lock = lock_site(folder)
            (folder / LOCK_NAME).write_text(lock.to_json())
            # For hosts to read; most don't serve it, so the lock leaves it out.
            paths = [file.path for file in lock.files]
            (folder / HEADERS_NAME).write_text(headers_file(paths, at))
    except OSError as error:
        raise ConfigError(f"{output} can't be written: {error.strerror or error}.") from error
    return lock


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file: name a folder.")
    if os.path.ismount(output):
        raise ConfigError(
            f"{output} is where a disk is mounted, and is replaced as a whole: name a folder in it."
        )
    if not output.is_dir() or not any(output.iterdir()):
        return
    lock = read_site_lock(output)
    if lock is None:
        raise ConfigError(
            f"{output} holds something other than a site of mlc-edge: name a new or an empty folder."
        )
    files = {PurePosixPath(file.path) for file in lock.files}
    ours = files | {PurePosixPath(LOCK_NAME), PurePosixPath(HEADERS_NAME)}
    folders = {folder for file in files for folder in file.parents}
    others = sorted(
        name.as_posix()
        for path in output.rglob("*")
        if (name := PurePosixPath(path.relative_to(output)))
        not in (folders if path.is_dir() and not path.is_symlink() else ours)
    )
    if others:
        raise ConfigError(
            f"{output} holds more than the site, such as {others[0]!r}, which would be deleted: move "
            "it, or write to a new folder and copy that."
        )


def _copy_app(static: Path, folder: Path) -> None:
    for name in plain_files(static):
        made = name in (LOCK_NAME, HEADERS_NAME) or name.startswith(f"{BUNDLES}/")
        if name not in NOT_SERVED and not made and not name.endswith(".tmp"):
            _copy(static / name, folder / name)


def _copy_bundle(bundle: ServedBundle, folder: Path) -> None:
    for name in (*(file.path for file in bundle.lock.files), LOCK_NAME):
        _copy(bundle.root / name, folder / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
