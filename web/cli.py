"""The `mlc-edge web` command."""

from pathlib import Path
from typing import Annotated

import typer


def web(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BUNDLE]...", help="Folders that `mlc-edge build` made."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    static: Annotated[
        Path | None, typer.Option(help="Folder of the built page, in place of the packaged one.")
    ] = None,
) -> None:
    """Serve the chat page and bundles to browsers."""
    from web.host import STATIC, HostConfig, create_app
    from web.server import address_url, bind, is_loopback, run

    app = create_app(HostConfig(bundles=tuple(bundles or ()), static=static or STATIC))
    listener = bind(host, port)
    if not is_loopback(host):
        typer.echo(
            f"warning: everyone who reaches {host} can load this page and its bundles. Browsers "
            "give WebGPU and offline storage only to https pages and to localhost.",
            err=True,
        )
    run(app, listener, on_ready=lambda: typer.echo(f"Ready: {address_url(host, listener)}"))
