"""The `mlc-edge site` command."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.errors import ConfigError
from web.cli import Models, Static, TrustLibrary, resolve_bundles


def site(
    output: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="Folder to write; a former site in it goes."),
    ] = None,
    models: Models = None,
    at: Annotated[
        str,
        typer.Option(
            help="Path at which the folder will be served. Only _headers, which belongs at the top of "
            "what a host serves, names it; everything else works anywhere."
        ),
    ] = "/",
    check: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Check a site that is deployed there, and write nothing."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything", help="With --check: fetch the weights, too, and check each hash."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check: print what was found as JSON.")
    ] = False,
    static: Static = None,
    trust_library: TrustLibrary = False,
) -> None:
    """Write page, scripts and models as one folder for any static server or CDN, or check one there."""
    if check is not None:
        if output is not None:
            raise ConfigError("--check URL checks a site and writes none: leave out the folder.")
        _check(check, everything=everything, as_json=as_json)
        return
    if output is None:
        raise ConfigError("name the folder to write, or a deployed site with --check URL.")
    if not (at.startswith("/") and at.endswith("/")):
        raise ConfigError(f"--at is {at!r}, expected a path such as / or /chat/.")
    _write(output, models or [None], at, static, trust_library)


def _write(
    output: Path, models: list[str] | list[None], at: str, static: Path | None, trust_library: bool
) -> None:
    from web.host import STATIC
    from web.site.folder import write_site

    bundles = resolve_bundles(models, trust_library)
    lock = write_site(output, bundles, static=static or STATIC, at=at)
    size = sum(file.bytes for file in lock.files)
    typer.echo(f"{output}: {len(lock.files)} files, {size / 1e6:,.1f} MB, {len(bundles)} model(s).")
    typer.echo(
        f"Try it: python3 -m http.server --directory {output}. Pages of other origins, with the widget "
        "or the engine, need a server that sends Access-Control-Allow-Origin: * (the folder's "
        f"_headers has it for some); mlc-edge web --site {output} --embed '*' does, too. On a real "
        "server, check it: mlc-edge site --check URL"
    )


def _check(url: str, *, everything: bool, as_json: bool) -> None:
    from web.site.check import check_site

    report = check_site(url, everything=everything)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
    else:
        for finding in report.findings:
            typer.echo(str(finding))
        typer.echo(report.summary)
    if not report.works:
        sys.exit(1)
