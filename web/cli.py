"""The `mlc-edge web` command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.trust import TRUST_HELP, configured_keys


def web(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Bundles, checkpoint folders, GGUF files, HF://owner/name; default: the embedded model. "
            "Checkpoints are compiled for browsers, once.",
        ),
    ] = None,
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
    static: Annotated[
        Path | None, typer.Option(help="Folder of the built page, in place of the packaged one.")
    ] = None,
    trust_library: Annotated[bool, typer.Option("--trust-library", help=TRUST_HELP)] = False,
) -> None:
    """Serve the chat page and models to browsers."""
    from web.host import STATIC, HostConfig, create_app, require_page
    from web.server import address_url, bind, is_loopback, run

    static = static or STATIC
    require_page(static)
    # What can be wrong is found before minutes go into compiling.
    listener = bind(host, port)
    bundles = _resolve(models or [None], trust_library)
    app = create_app(HostConfig(bundles=bundles, static=static))
    if not is_loopback(host):
        typer.echo(
            f"warning: everyone who reaches {host} can load this page and its bundles. Browsers "
            "give WebGPU and offline storage only to https pages and to localhost.",
            err=True,
        )
    run(app, listener, on_ready=lambda: typer.echo(f"Ready: {address_url(host, listener)}"))


def _resolve(models: Sequence[str | None], trust_library: bool) -> tuple[Path, ...]:
    """The bundles to serve; what is done to get them is told on stderr."""
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
