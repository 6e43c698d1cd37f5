"""The engine for Pyodide, a browser's Python: the JavaScript library and its worker run the model."""

import asyncio
import importlib
import importlib.metadata
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from js import JSON, AbortController, Object
from pyodide.code import run_js
from pyodide.ffi import JsException, create_proxy, to_js

from mlc_edge.errors import EngineError
from mlc_edge.openai import ChatCompletion, ChatCompletionChunk
from mlc_edge.version import BROWSER_DISTRIBUTION

# Beside the wheel in the folder that `mlc-edge site` writes.
LIBRARY = "mlc-edge.js"
# What pages register that let no script be made of text, as Pyodide's `import()` of an address is.
REGISTERED = "mlc_edge_library"
# What the answers' types have no place for.
UNSUPPORTED = ("tools", "functions")

# How often the library could not be had, by its address.
_failures: dict[str, int] = {}

Progress = Callable[[str, float | None], None]


class MLCEngine:
    """A model in this page's worker; OpenAI's parameters and objects, as outside of browsers.

    A page can't wait, so calls are awaited; `stream=True` gives an async iterator.
    """

    def __init__(self, engine: Any, detach: Callable[[], None]) -> None:
        """Of a JavaScript engine; `create` makes one."""
        self._engine = engine
        self._detach = detach
        self.chat = _Chat(Completions(engine))

    @classmethod
    async def create(
        cls,
        model: str | Sequence[str] | None = None,
        *,
        base_url: str | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> "MLCEngine":
        """Load `model`: the id of one of the site's models, or a bundle's address; default: the first.

        `base_url` is the site's folder, by default the one that this package came from; `options` are
        further ones of JavaScript's `createEngine`, by their names there. `progress` is told of
        steps and, where known, their share done. Raises EngineError; cancelling it ends the load.
        """
        library = await _library(base_url)
        heard = create_proxy(_teller(progress))
        given = {"model": model, "baseURL": base_url, "onProgress": heard, **options}
        present = {name: value for name, value in given.items() if value is not None}

        async def start(signal: Any) -> Any:
            return await library.createEngine(_plain({**present, "signal": signal}))

        try:
            return cls(await _abortable(start), heard.destroy)
        except BaseException:
            heard.destroy()
            raise

    @property
    def model(self) -> str | None:
        """Id of the model."""
        return self._engine.model or None

    async def close(self) -> None:
        """Free the model's memory; requests that run get an error."""
        self._engine.dispose()
        self._detach()

    async def __aenter__(self) -> "MLCEngine":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


AsyncMLCEngine = MLCEngine


class _Chat:
    """Makes `engine.chat.completions`."""

    def __init__(self, completions: "Completions") -> None:
        self.completions = completions


class Completions:
    """Answers chats."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def create(self, /, **params: Any) -> "ChatCompletion | Stream":
        """OpenAI's `create`: an answer, or an iterator of chunks with `stream=True`.

        There are no tools, whatever a server has. Raises EngineError; cancelling it ends the request.
        """
        for name in UNSUPPORTED:
            if params.get(name):
                problem = f"{name} can't be used in Python in a page."
                remedy = "Leave it out, or ask the engine in JavaScript."
                raise EngineError("invalid_request", problem, remedy, name)
        controller = AbortController.new()

        async def ask(signal: Any) -> Any:
            create = self._engine.chat.completions.create
            return await create(_plain(params), _plain({"signal": signal}))

        answer = await _abortable(ask, controller)
        if params.get("stream"):
            return Stream(answer, controller)
        return ChatCompletion.from_dict(_content(answer))


class Stream:
    """Chunks of an answer; closing it, or dropping it, cancels the request."""

    def __init__(self, chunks: Any, controller: Any) -> None:
        self._chunks = chunks.__aiter__()
        self._controller = controller
        self._has_ended = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        if self._has_ended:
            raise StopAsyncIteration
        try:
            chunk = await _translated(self._chunks.__anext__())
        except BaseException:
            self._end()
            raise
        return ChatCompletionChunk.from_dict(_content(chunk))

    async def aclose(self) -> None:
        """Cancel what is left."""
        self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._controller.abort()


async def _abortable(call: Callable[[Any], Awaitable[Any]], controller: Any = None) -> Any:
    """Await what takes a signal; a task that is cancelled meanwhile aborts it."""
    controller = controller or AbortController.new()
    try:
        return await _translated(call(controller.signal))
    except asyncio.CancelledError:
        controller.abort()
        raise


async def _translated(result: Awaitable[Any]) -> Any:
    """The result; the library's errors as ours."""
    try:
        return await result
    except JsException as error:
        if getattr(error, "name", "") != "EngineError":
            raise
        param = getattr(error, "param", None) or None
        raise EngineError(error.code, error.message, error.remedy, param) from None


async def _library(base_url: str | None) -> Any:
    try:
        return importlib.import_module(REGISTERED)
    except ImportError:
        return await _imported(_address(base_url))


async def _imported(address: str) -> Any:
    """The library; EngineError if it can't be had now."""
    failures = _failures.get(address, 0)
    # Browsers remember an import that failed, by its address.
    asked = f"{address}?attempt={failures + 1}" if failures else address
    try:
        return await run_js("(address) => import(address)")(asked)
    except JsException as error:
        _failures[address] = failures + 1
        raise EngineError(
            "network_error",
            f"The library {address} can't be loaded: {error}",
            "Check the connection and that the site is there, then try again.",
        ) from error


def _address(base_url: str | None) -> str:
    """Where the library is: in the site, or beside the wheel that this package was installed from."""
    if base_url is not None:
        folder = base_url if base_url.endswith("/") else f"{base_url}/"
        page: str = run_js("location.href")
        return urljoin(page, f"{folder}dist/{LIBRARY}")
    installed = importlib.metadata.distribution(BROWSER_DISTRIBUTION)
    source = installed.read_text("PYODIDE_SOURCE") or ""
    if "/" in source:
        return urljoin(source.strip(), LIBRARY)
    raise EngineError(
        "invalid_request",
        "This package was installed from no site of mlc-edge, so there are no models beside it.",
        "Name the site's folder as base_url.",
        "base_url",
    )


def _teller(progress: Progress | None) -> Callable[[Any], None]:
    def tell(event: Any) -> None:
        done, total = event.loadedBytes, event.totalBytes
        if event.stage == "pipelines":
            done, total = event.done, event.total
        if progress:
            progress(event.stage, done / total if total else None)

    return tell


def _content(value: Any) -> Any:
    """By its JSON: to Pyodide, null isn't None."""
    return json.loads(JSON.stringify(value))


def _plain(value: Mapping[str, Any]) -> Any:
    return to_js(value, dict_converter=Object.fromEntries)
