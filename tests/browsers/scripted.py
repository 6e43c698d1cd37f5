"""The chat page around an engine without a model, whose answers are scripted, for any browser.

Without the host's headers, which forbid frames; the page has its policy in itself.
"""

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.page.conftest import POCKET, ROOT

# Two pages of one origin at once, as two tabs are.
TWO = '<!doctype html><meta charset="utf-8"><title>two</title><link rel="icon" href="data:,">'
TWO += '<iframe id="one" src="./" width="600" height="700"></iframe>'
TWO += '<iframe id="two" src="./" width="600" height="700"></iframe>'


# The page's own script runs after this.
ENTER = """document.addEventListener("readystatechange", () => {
  if (document.readyState === "interactive" && window.script.entered)
    document.querySelector("#message").value = `${window.script.entered}\\n`;
});"""


def add_script(folder: Path) -> None:
    """Lets the page load what a test wants to happen before its own script."""
    page = folder / "index.html"
    head = '<script src="./dist/script.js"></script><script type="module"'
    page.write_text(page.read_text().replace('<script type="module"', head))


def scripted_host(folder: Path, script: dict[str, Any]) -> Starlette:
    def wanted(_: Request) -> Response:
        return Response(
            f"window.script = {json.dumps(script)};{ENTER}", media_type="text/javascript"
        )

    def index(_: Request) -> Response:
        return JSONResponse({"bundles": [POCKET]})

    def axe(_: Request) -> Response:
        source = (ROOT / "node_modules/axe-core/axe.min.js").read_text()
        return Response(source, media_type="text/javascript")

    def two(_: Request) -> Response:
        return Response(TWO, media_type="text/html")

    return Starlette(
        routes=[
            Route("/dist/script.js", wanted),
            Route("/bundles/index.json", index),
            Route("/axe.js", axe),
            Route("/two", two),
            Mount("/", StaticFiles(directory=folder, html=True)),
        ],
    )
