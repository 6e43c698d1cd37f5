"""Answers requests for one file: validators, ranges, compressed variants."""

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Receive, Scope, Send

from web.encoding import accepted_encoding, compress, is_compressible

# mimetypes reads the machine's own tables; these must be right everywhere.
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
CACHED_VARIANT_BYTES = 256 << 20

# Device and inode too: a file that was replaced within a clock tick is another file.
Version = tuple[str, int, int, int]


@dataclass(frozen=True)
class ServedFile:
    """A file on disk and how to serve it; `sha256` is None where no lock names it."""

    path: Path
    name: str
    cache_control: str
    sha256: str | None = None


def resolve_inside(root: Path, relative: str) -> Path | None:
    """The regular file at `relative` under `root`, or None: also when a link leads out of it."""
    parts = relative.split("/")
    if any(part.startswith(".") or not part or "\\" in part or "\0" in part for part in parts):
        return None
    try:
        path = root.joinpath(*parts).resolve(strict=True)
    except OSError:
        return None
    return path if path.is_relative_to(root.resolve()) and path.is_file() else None


class ContentCache:
    """Hashes and compressed variants by file version, so that each is computed once."""

    def __init__(self) -> None:
        self._hashes: dict[Version, str] = {}
        self._variants: OrderedDict[tuple[Version, str], bytes] = OrderedDict()
        self._variant_bytes = 0
        self._lock = Lock()

    def sha256(self, path: Path, stat: os.stat_result) -> str:
        """Hex digest of the file's content; blocks while it is read for the first time."""
        version = _version(path, stat)
        with self._lock:
            if version not in self._hashes:
                self._hashes[version] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._hashes[version]

    def variant(self, path: Path, stat: os.stat_result, encoding: str) -> bytes:
        """The file's content in `encoding`; blocks while it is compressed for the first time."""
        key = (_version(path, stat), encoding)
        with self._lock:
            if key not in self._variants:
                self._variants[key] = compress(path.read_bytes(), encoding)
                self._variant_bytes += len(self._variants[key])
                while self._variant_bytes > CACHED_VARIANT_BYTES and len(self._variants) > 1:
                    self._variant_bytes -= len(self._variants.popitem(last=False)[1])
            return self._variants[key]


async def serve(request: Request, file: ServedFile, cache: ContentCache) -> Response:
    """The response to a GET or HEAD request for `file`: 200, 206, 304, 400 or 416."""
    stat = await run_in_threadpool(os.stat, file.path)
    sha256 = file.sha256 or await run_in_threadpool(cache.sha256, file.path, stat)
    headers = {
        "content-type": media_type(file.name),
        "cache-control": file.cache_control,
        "etag": f'"{sha256}"',
    }
    encoding = None
    if is_compressible(file.name, stat.st_size):
        headers["vary"] = "Accept-Encoding"
        # A range counts bytes of the file itself, so it is answered uncompressed.
        if "range" not in request.headers:
            encoding = accepted_encoding(request.headers.get("accept-encoding", ""))
    if encoding:
        headers["etag"] = f'"{sha256}-{encoding}"'
    if _is_unchanged(request.headers.get("if-none-match"), headers["etag"]):
        return NotModifiedResponse(Headers(headers))
    if encoding is None:
        return RangedFileResponse(file.path, headers=headers, stat_result=stat)
    content = await run_in_threadpool(cache.variant, file.path, stat, encoding)
    return Response(content, headers={**headers, "content-encoding": encoding})


class RangedFileResponse(FileResponse):
    """Starlette's, but ranges in other units than bytes are ignored (RFC 9110, 14.2)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not Headers(scope=scope).get("range", "bytes=").strip().lower().startswith("bytes="):
            headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
            scope = {**scope, "headers": headers}
        await super().__call__(scope, receive, send)


def media_type(name: str) -> str:
    """The Content-Type of a file name."""
    return MEDIA_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")


def _is_unchanged(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def _version(path: Path, stat: os.stat_result) -> Version:
    return (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
