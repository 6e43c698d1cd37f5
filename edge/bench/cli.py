"""The `mlc-edge bench` command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.devices import DEVICE_HELP, DeviceChoice
from mlc_edge.errors import ConfigError
from mlc_edge.trust import TRUST_HELP, configured_keys

BROWSER_TARGETS = ("webgpu", "wasm")


def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Bundle, checkpoint folder, GGUF file or HF://owner/name; default: embedded."
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help=DEVICE_HELP)] = "auto",
    target: Annotated[
        str | None,
        typer.Option(help="Library; default: the device's best. webgpu…: measured in a browser."),
    ] = None,
    concurrency: Annotated[
        str, typer.Option(help="Requests at once, one table row each.")
    ] = "1,4,16",
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of each prompt.", min=1)] = 128,
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.", min=2)] = 64,
    repeats: Annotated[int, typer.Option(help="Rounds of each row.", min=1)] = 3,
    threads: Annotated[int | None, typer.Option(help="Default: the device's.", min=1)] = None,
    software: Annotated[
        bool, typer.Option("--software/--gpu", help="In a browser: SwiftShader, or the GPU.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust_library: Annotated[bool, typer.Option("--trust-library", help=TRUST_HELP)] = False,
) -> None:
    """Measure a model on this machine: TTFT, time per token, throughput, overhead, start-up, memory."""
    from mlc_edge.engine import EngineConfig
    from mlc_edge.fastest import choose_device
    from mlc_edge.models import resolve_model

    in_browser = bool(target and target.startswith(BROWSER_TARGETS))
    if in_browser and model is None:
        raise ConfigError(f"--target {target}: name a bundle that has this library.")
    if in_browser and device != "auto":
        raise ConfigError(f"--target {target} is for browsers, which choose: leave --device out.")
    config = EngineConfig(device=device, target=target)
    bundle = resolve_model(
        model,
        target=config.build_target(lambda step, share: None),
        trust_library=trust_library,
        trusted_keys=configured_keys(),
    )
    if target and in_browser:
        _bench_browser(bundle, target, max_tokens, repeats, software=software, as_json=as_json)
        return
    from edge.bench.load_test import LoadTest, run
    from edge.bench.report import print_report

    plan = LoadTest(
        bundle=bundle,
        device=str(choose_device(bundle, DeviceChoice.parse(device), target, _tell)),
        target=target,
        concurrency=_counts(concurrency),
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        repeats=repeats,
        threads=threads,
    )
    result = run(plan)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        print_report(result)


def _tell(step: str, _: float | None) -> None:
    typer.echo(step, err=True)


def _bench_browser(
    bundle: Path, target: str, max_tokens: int, repeats: int, *, software: bool, as_json: bool
) -> None:
    from web.bench import bench as bench_browser

    bench_browser(
        bundle,
        target=target,
        prompt_words=32,
        max_tokens=max_tokens,
        repeats=repeats,
        software=software,
        as_json=as_json,
    )


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise ConfigError(f"--concurrency is {text!r}: give whole numbers such as 1,4,16.")
    return counts
