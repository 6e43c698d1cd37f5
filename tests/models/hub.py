"""A server that speaks the Hugging Face Hub's protocol, as far as downloads need it."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from web.server import address_url, bind

CHUNK_BYTES = 1 << 14
LARGE = (".safetensors", ".bin", ".gguf", ".so")


@dataclass
class Repository:
    """Files by name; `claimed_bytes` is what the Hub says of each large file's size."""

    files: dict[str, bytes]
    gated: bool = False
    claimed_bytes: int | None = None

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def relock(self) -> None:
        """Let the lock of a bundle say what the files are now."""
        lock = json.loads(self.files["mlc-lock.json"])
        for entry in lock["files"]:
            content = self.files[entry["path"]]
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        self.files["mlc-lock.json"] = json.dumps(lock).encode()


@dataclass
class Hub:
    """Repositories, and what clients asked of them: (method, file, first byte)."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    # The next answer with this file ends after so many bytes, as a connection that breaks.
    broken: dict[str, int] = field(default_factory=dict)
    # A file that is sent once the event is set.
    held: dict[str, threading.Event] = field(default_factory=dict)
    is_down: bool = False

    def add_folder(self, name: str, folder: Path) -> Repository:
        """Publish a folder's files."""
        paths = (path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.repositories[name] = Repository(files)
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """Names of the files that were asked for by GET."""
        return [name for method, name, _ in self.requests if method == "GET"]

    @property
    def _cdn(self) -> str:
        """Another host's name: the Hub's client follows redirects on the same host by itself."""
        return self.url.replace("127.0.0.1", "localhost") + "cdn/"

    def app(self) -> Starlette:
        repository = "/api/models/{owner}/{name}"
        return Starlette(
            routes=[
                Route(repository, self._info),
                Route(f"{repository}/revision/{{revision:path}}", self._info),
                Route(f"{repository}/tree/{{revision}}", self._tree),
                Route("/{owner}/{name}/resolve/{revision}/{file:path}", self._resolve),
                Route("/cdn/{owner}/{name}/{file:path}", self._send),
            ]
        )

    def _find(self, request: Request) -> Repository | Response:
        if self.is_down:
            return Response(status_code=503)
        path = request.path_params
        found = self.repositories.get(f"{path['owner']}/{path['name']}")
        if found is None:
            return Response(status_code=404, headers={"X-Error-Code": "RepoNotFound"})
        if path.get("revision", "main") not in ("main", found.commit):
            return Response(status_code=404, headers={"X-Error-Code": "RevisionNotFound"})
        return found

    async def _info(self, request: Request) -> Response:
        found = self._find(request)
        if isinstance(found, Response):
            return found
        path = request.path_params
        return JSONResponse(
            {
                "id": f"{path['owner']}/{path['name']}",
                "sha": found.commit,
                "siblings": [{"rfilename": name} for name in found.files],
            }
        )

    async def _tree(self, request: Request) -> Response:
        found = self._find(request)
        if isinstance(found, Response):
            return found
        return JSONResponse(
            [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in found.files.items()
            ]
        )

    async def _resolve(self, request: Request) -> Response:
        """Small files are sent; large ones are elsewhere, as the Hub has it."""
        found = self._find(request)
        if isinstance(found, Response):
            return found
        if found.gated:
            return Response(status_code=403, headers={"X-Error-Code": "GatedRepo"})
        path = request.path_params
        content = found.files[path["file"]]
        commit = {"X-Repo-Commit": found.commit}
        if not path["file"].endswith(LARGE):
            return await self._send(request, commit)
        size = found.claimed_bytes or len(content)
        return RedirectResponse(
            f"{self._cdn}{path['owner']}/{path['name']}/{path['file']}",
            status_code=302,
            headers={
                **commit,
                "X-Linked-Size": str(size),
                "X-Linked-ETag": f'"{_etag(content)}"',
            },
        )

    async def _send(self, request: Request, headers: dict[str, str] | None = None) -> Response:
        found = self._find(request)
        if isinstance(found, Response):
            return found
        name = request.path_params["file"]
        content = found.files[name]
        first = _first_byte(request)
        self.requests.append((request.method, name, first))
        return StreamingResponse(
            self._bytes(name, content[first:]),
            status_code=206 if first else 200,
            headers={
                **(headers or {}),
                "ETag": f'"{_etag(content)}"',
                "Content-Length": str(len(content) - first),
                "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}",
            },
        )

    async def _bytes(self, name: str, content: bytes) -> AsyncIterator[bytes]:
        if name in self.held:
            await run_in_threadpool(self.held[name].wait)
        end = self.broken.pop(name, None)
        for first in range(0, len(content) if end is None else end, CHUNK_BYTES):
            yield content[first : first + CHUNK_BYTES]
        if end is not None:
            raise ConnectionResetError


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _first_byte(request: Request) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    return int(match[1]) if match else 0


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """An empty hub on a free port."""
    hub = Hub()
    listener = bind("127.0.0.1", 0)
    hub.url = address_url("127.0.0.1", listener)
    server = uvicorn.Server(uvicorn.Config(hub.app(), log_level=100))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        for event in hub.held.values():
            event.set()
        server.should_exit = True
        thread.join()
