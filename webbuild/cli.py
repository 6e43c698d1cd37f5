"""The `mlc-edge build` command."""

from pathlib import Path
from typing import Annotated

import typer

QUANT_HELP = (
    "q4f16_1 (or q4), q4f32_1, q4mf16 (q4m), q4mf32, q8f16 (q8), q8f32, q0f16 or q0f32; default: q4f16_1, or "
    "what published weights or a GGUF file have."
)
RULE_HELP = (
    "Another format for some weights: lm_head=q8, '*.down_proj=q4m'; q0, q4, q4m or q8; repeatable. "
    "Embedding and head are in q8 by default where others have 4 bits, below 3B parameters."
)
EFFORT_HELP = (
    "How levels and scales are found: fast (from the weights alone), default (weighted by what the "
    "layers read of a text), best (errors are made good by later columns; minutes for 1B weights)."
)
SIZE_HELP = (
    "Bytes of the weights, such as 95MB: each weight gets 4 bits, 4 with a minimum or 8, by what rounding it "
    "does to the model; some minutes for 1B weights."
)
TARGET_HELP = (
    "webgpu (all WebGPU libraries of the quantization) or a single one, native (this machine's CPU), "
    "pi4, pi5, jetson-orin, jetson-thor, aarch64, x86-64 (with AVX2), x86-64-v4; vulkan-x86-64 or "
    "vulkan-aarch64 (GPUs by Vulkan, also jetson-orin-vulkan and pi5-vulkan; with -software for drivers that "
    "compute on the CPU); cuda-sm87 (Jetson Orin), cuda-sm110 (Jetson Thor), cuda-sm90 (x86-64), cuda-native "
    "(this machine's GPUs); repeatable."
)


def build(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Folder of a Hugging Face checkpoint, of MLC weights, or a bundle; or a GGUF file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Bundle folder; its name is the model's id.")
    ],
    target: Annotated[list[str] | None, typer.Option(help=TARGET_HELP)] = None,
    quant: Annotated[str | None, typer.Option(help=QUANT_HELP)] = None,
    quant_rule: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=FORMAT", help=RULE_HELP)
    ] = None,
    quant_effort: Annotated[str, typer.Option(help=EFFORT_HELP)] = "default",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text to learn from; default: one of the project."),
    ] = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    mlc_compatible: Annotated[
        bool, typer.Option(help="All weights in formats of MLC's, for its libraries, too.")
    ] = False,
    measure: Annotated[
        bool, typer.Option(help="Say what rounding did to the model, on a short text.")
    ] = True,
    context_window_size: Annotated[
        int | None, typer.Option(help="Tokens; default: the model's, at most 4096.", min=16)
    ] = None,
    prefill_chunk_size: Annotated[
        int | None, typer.Option(help="Tokens taken in one step; default: 512.", min=16)
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign the bundle with this key of `mlc-edge key new`."),
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option(help="Write the compiler's module after each phase there.")
    ] = None,
) -> None:
    """Compile a checkpoint into a bundle that browsers and devices run."""
    from webbuild.build import BuildRequest
    from webbuild.build import build as build_bundle
    from webbuild.effort import Rounding, parse_effort
    from webbuild.quantization.budget import parse_size
    from webbuild.quantization.choices import QuantRule
    from webbuild.terminal import TerminalProgress, print_bundle, print_quality

    rounding = Rounding(parse_effort(quant_effort), calibration)
    request = BuildRequest(
        checkpoint=checkpoint,
        output=output,
        targets=tuple(target or ("webgpu",)),
        quantization=quant,
        quant_rules=tuple(map(QuantRule.parse, quant_rule or ())),
        mlc_compatible=mlc_compatible,
        measure=measure,
        rounding=rounding,
        size=None if size is None else parse_size(size),
        context_window_size=context_window_size,
        prefill_chunk_size=prefill_chunk_size,
        sign=sign,
        dump_ir=dump_ir,
    )
    with TerminalProgress() as progress:
        result = build_bundle(request, progress)
    if result.up_to_date:
        typer.echo(f"{output} is up to date.")
    else:
        print_bundle(output, result.lock)
        if result.quality:
            print_quality(result.quality)
