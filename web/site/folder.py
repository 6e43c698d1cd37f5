"""Writes a site: page, scripts, workers and bundles, with a lock of all."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from starlette.responses import JSONResponse

from mlc_edge.bundle import LOCK_NAME
from mlc_edge.errors import ConfigError
from mlc_edge.folders import replacing
from web.bundles import ServedBundle, index_of, open_bundles
from web.host import NOT_SERVED, STATIC, require_page
from web.site.headers import HEADERS_NAME, headers_file
from web.site.lock import BUNDLES, INDEX, SiteLock, holds_site, lock_site, plain_files


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
            for bundle in served.values():
                _copy_bundle(bundle, folder / BUNDLES / bundle.id)
            # The very bytes that our host sends, which the lock holds it to.
            (folder / INDEX).write_bytes(JSONResponse(index_of(served.values())).body)
            paths = [path.relative_to(folder).as_posix() for path in plain_files(folder)]
            lock = lock_site(folder)
            (folder / LOCK_NAME).write_text(lock.to_json())
            # For hosts to read; most don't serve it, so the lock leaves it out.
            (folder / HEADERS_NAME).write_text(headers_file(paths, at))
    except OSError as error:
        raise ConfigError(f"{output} can't be written: {error.strerror or error}.") from error
    return lock


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file: name a folder.")
    if output.is_dir() and any(output.iterdir()) and not holds_site(output):
        raise ConfigError(
            f"{output} holds something other than a site of mlc-edge: name a new or an empty folder."
        )


def _copy_app(static: Path, folder: Path) -> None:
    for path in plain_files(static):
        relative = path.relative_to(static).as_posix()
        if relative not in NOT_SERVED and path.suffix != ".tmp":
            _copy(path, folder / relative)


def _copy_bundle(bundle: ServedBundle, folder: Path) -> None:
    for name in (*(file.path for file in bundle.lock.files), LOCK_NAME):
        _copy(bundle.root / name, folder / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
