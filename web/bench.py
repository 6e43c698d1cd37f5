"""The `mlc-edge bench` command: measures a bundle in a real browser."""

import gzip
import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mlc_edge.errors import ConfigError

TIMEOUT_MS = 900_000
MEASURES = {
    "load_ms": "load, first visit",
    "warm_load_ms": "load, cached",
    "download_ms": "download",
    "upload_ms": "weights to the device",
    "pipeline_ms": "pipelines, cached load",
    "ttft_ms": "time to first token",
    "prefill_tokens_per_s": "prefill, tokens/s",
    "tpot_ms": "time per output token",
    "decode_tokens_per_s": "decode, tokens/s",
    "wasm_bytes": "library, bytes",
    "wasm_gzip_bytes": "library gzipped, bytes",
    "transfer_bytes": "whole bundle, bytes",
}


def bench(
    bundle: Annotated[Path, typer.Argument(help="Folder that `mlc-edge build` made.")],
    target: Annotated[
        str, typer.Option(help="webgpu (the best library for the adapter), or one of the bundle's.")
    ] = "webgpu",
    prompt_words: Annotated[int, typer.Option(help="Words of each prompt.", min=1)] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.", min=2)] = 32,
    repeats: Annotated[int, typer.Option(help="Answers to take the median of.", min=1)] = 5,
    software: Annotated[
        bool, typer.Option("--software/--gpu", help="SwiftShader, or this machine's GPU.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a bundle in Chromium: sizes, load, pipelines, TTFT, prefill, time per token."""
    result = measure(
        bundle,
        target=target,
        prompt_words=prompt_words,
        max_tokens=max_tokens,
        repeats=repeats,
        software=software,
    )
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        _print(result)


def measure(
    bundle: Path,
    *,
    target: str,
    prompt_words: int,
    max_tokens: int,
    repeats: int,
    software: bool,
) -> dict[str, Any]:
    """Run the benchmark page; speeds and times are medians over `repeats` answers.

    Raises BundleError for a damaged bundle, ConfigError for an unknown target, ToolchainError without a
    browser.
    """
    from mlc_edge.bundle import read_lock
    from web.browser import chromium

    lock = read_lock(bundle)
    if target != "webgpu" and target not in lock.targets:
        known = ", ".join(["webgpu", *lock.targets])
        raise ConfigError(f"--target {target!r}: {bundle} has {known}.")
    options = {
        "bundleUrl": f"bundles/{lock.model.id}/",
        "promptWords": prompt_words,
        "maxTokens": max_tokens,
        "repeats": repeats,
        **({} if target == "webgpu" else {"target": target}),
    }
    with _serving(bundle) as url, chromium(software=software) as browser:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"{url}benchmark.html")
        page.wait_for_function("'runBenchmark' in window")
        raw = page.evaluate("options => window.runBenchmark(options)", options)
        version = browser.version
    return {**_summary(raw), **_sizes(bundle, raw["model"]["target"]), "browser": version}


@contextmanager
def _serving(bundle: Path) -> Iterator[str]:
    import uvicorn

    from web.host import STATIC, HostConfig, create_app
    from web.server import address_url, bind

    app = create_app(HostConfig(bundles=(bundle,), static=STATIC))
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address_url("127.0.0.1", listener)
    finally:
        server.should_exit = True
        thread.join()


def _summary(raw: dict[str, Any]) -> dict[str, Any]:
    model, answers = raw["model"], raw["answers"]

    def median(field: str) -> float:
        return statistics.median(answer[field] for answer in answers)

    return {
        "model": model["id"],
        "target": model["target"],
        "adapter": model["adapter"],
        "prompt_tokens": answers[0]["promptTokens"],
        "completion_tokens": answers[0]["completionTokens"],
        "repeats": len(answers),
        "load_ms": raw["loadMs"],
        "warm_load_ms": raw["warmLoadMs"],
        "download_ms": model["downloadMs"],
        "upload_ms": model["uploadMs"],
        "pipeline_ms": model["pipelineMs"],
        "ttft_ms": median("ttftMs"),
        "prefill_tokens_per_s": median("prefillTokensPerS"),
        "tpot_ms": median("tpotMs"),
        "decode_tokens_per_s": median("decodeTokensPerS"),
    }


def _sizes(bundle: Path, target: str) -> dict[str, int]:
    from mlc_edge.bundle import read_lock

    lock = read_lock(bundle)
    library = lock.targets[target].library
    others = {t.library for name, t in lock.targets.items() if name != target}
    return {
        "wasm_bytes": (bundle / library).stat().st_size,
        "wasm_gzip_bytes": len(gzip.compress((bundle / library).read_bytes())),
        "transfer_bytes": sum(file.bytes for file in lock.files if file.path not in others),
    }


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    adapter = result["adapter"]
    title = (
        f"{result['model']} on {result['target']}, {adapter['vendor']} {adapter['architecture']}"
    )
    table = Table("measure", "value", title=title)
    table.columns[1].justify = "right"
    for field, label in MEASURES.items():
        table.add_row(label, f"{result[field]:,.1f}".removesuffix(".0"))
    Console().print(table)
