"""The `mlc-edge web` command."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from mlc_edge.errors import ConfigError
from mlc_edge.trust import TRUST_HELP, configured_keys
from web.site.lock import bundle_folders

# Of `mlc-edge site`, too.
Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...",
        help="Bundles, checkpoint folders, GGUF files, HF://owner/name; default: the embedded model. "
        "Checkpoints are compiled for browsers, once.",
    ),
]
Static = Annotated[
    Path | None, typer.Option(help="Folder of the built page, in place of the packaged one.")
]
TrustLibrary = Annotated[bool, typer.Option("--trust-library", help=TRUST_HELP)]


def web(
    models: Models = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Meant for this machine and trusted networks: static hosting "
            "or `mlc-edge run` serves others."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    static: Static = None,
    site: Annotated[
        Path | None,
        typer.Option(help="Folder that `mlc-edge site` wrote: its page and its models are served."),
    ] = None,
    embed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Origin whose pages may load the scripts, as in https://example.com; * for any. "
            "Can be given several times.",
        ),
    ] = None,
    trust_library: TrustLibrary = False,
) -> None:
    """Serve the chat page and models to browsers."""
    from web.host import STATIC, HostConfig, create_app, require_page
    from web.server import address_url, bind, is_loopback, run

    if site and (models or static):
        raise ConfigError("--site has a page and models of its own: leave out MODEL and --static.")
    static = static or site or STATIC
    require_page(static)
    embedders = tuple(_origin(origin) for origin in embed or ())
    # What can be wrong is found before minutes go into compiling.
    listener = bind(host, port)
    bundles = bundle_folders(site) if site else resolve_bundles(models or [None], trust_library)
    app = create_app(HostConfig(bundles=bundles, static=static, embedders=embedders))
    if not is_loopback(host):
        typer.echo(
            f"warning: everyone who reaches {host} can load this page and its bundles. Browsers "
            "give WebGPU and offline storage only to https pages and to localhost.",
            err=True,
        )
    run(app, listener, on_ready=lambda: typer.echo(f"Ready: {address_url(host, listener)}"))


def _origin(text: str) -> str:
    """As browsers send it; raises ConfigError for what they never do."""
    try:
        parts = urlsplit(text)
        names_default_port = {"http": 80, "https": 443}.get(parts.scheme) == parts.port
        sent = f"{parts.scheme}://{parts.netloc}"
        plain = parts.scheme in ("http", "https") and re.fullmatch(
            r"[a-z0-9.:\[\]-]+", parts.netloc
        )
    except ValueError:
        plain, names_default_port, sent = None, False, ""
    if text != "*" and (not plain or names_default_port or text != sent):
        raise ConfigError(
            f"--embed is {text!r}, expected an origin as browsers send it, such as https://example.com: in "
            "lower case, without path, user or default port (names of other scripts as xn--...); or *."
        )
    return text


def resolve_bundles(models: Sequence[str | None], trust_library: bool) -> tuple[Path, ...]:
    """Bundles for browsers, got or compiled; what is done is told on stderr."""
    from mlc_edge.models import BROWSER, resolve_model

    keys = configured_keys()
    return tuple(
        resolve_model(
            model,
            target=BROWSER,
            progress=_Steps().tell,
            trust_library=trust_library,
            trusted_keys=keys,
        )
        for model in models
    )


class _Steps:
    """Prints each step once, however often its share grows."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, step: str, share: float | None) -> None:
        if step != self._last:
            typer.echo(step, err=True)
        self._last = step
