"""The `mlc-edge compare` command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from webbuild.quality.compare import ComparedModel

SHOWN_LAYERS, SHOWN_TOKENS = 5, 8
# Tokens before the one that is shown.
CONTEXT_TOKENS = 8


def compare(
    bundle: Annotated[str, typer.Argument(help="A bundle, or what is built into one.")],
    reference: Annotated[
        Path, typer.Option(help="The checkpoint, or GGUF file, that it was built from.")
    ],
    text: Annotated[
        Path | None, typer.Option(help="A text; default: a short one of the project.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it: a file of type .svg or .png (needs matplotlib).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold a bundle against the model that it was made of: perplexity, KL, first choices, worst layers."""
    from mlc_edge.models import resolve_model
    from mlc_edge.trust import configured_keys
    from webbuild.calibration.corpus import FOLDER, HELD_OUT, TokenIds, read_text
    from webbuild.quality.compare import compare as compare_models
    from webbuild.quality.plot import check_plot, draw
    from webbuild.sources import open_source

    content = read_text(text or FOLDER / HELD_OUT)
    if plot:
        check_plot(plot)
    source = open_source(reference)
    folder = resolve_model(
        bundle, target="native", progress=_report, trusted_keys=configured_keys()
    )
    result = compare_models(_runnable(folder), source, content, _report)
    summary = summarise(result, TokenIds(source.chat))
    if plot:
        draw(plot, result, title=f"{folder.name} beside {reference.name}")
    typer.echo(json.dumps(summary, ensure_ascii=False, indent=1) if as_json else describe(summary))


def _report(step: str, share: float | None = None) -> None:
    """Say on stderr what begins; not each part of a download."""
    from mlc_edge.visible import visible

    if share is None:
        typer.echo(visible(step), err=True)


def _runnable(bundle: Path) -> Path:
    """`bundle`, or one for this machine with the same weights."""
    from mlc_edge.bundle import read_lock
    from mlc_edge.compiled import compiled_bundle
    from mlc_edge.cpu import choose_target, host_cpu
    from mlc_edge.errors import BundleError

    try:
        choose_target(read_lock(bundle), host_cpu())
    except BundleError:
        return compiled_bundle(bundle, bundle.name, "native", report=_report)
    return bundle


def summarise(result: "ComparedModel", tokens: Any) -> dict[str, Any]:
    """All numbers, as JSON has them."""
    import numpy as np

    agreement = result.agreement
    worst = np.argsort(-agreement.divergences, kind="stable")[:SHOWN_TOKENS]
    layers = sorted(result.layers, key=lambda each: -each.error)[:SHOWN_LAYERS]
    return {
        "target": result.target,
        "parameter_bytes": result.parameter_bytes,
        "tokens": len(agreement.divergences),
        "reference_perplexity": agreement.reference_perplexity,
        "perplexity": agreement.model_perplexity,
        "kl": agreement.mean_divergence,
        "kl_99th_percentile": float(np.percentile(agreement.divergences, 99)),
        "top1_agreement": agreement.same_choice,
        "worst_layers": [
            {"layer": each.layer, "format": each.format, "relative_error": each.error}
            for each in layers
        ],
        "worst_tokens": [
            {
                "kl": float(agreement.divergences[index]),
                "context": tokens.text(result.contexts[index][-CONTEXT_TOKENS - 1 : -1]),
                "token": tokens.text(result.contexts[index][-1:]),
                "reference_choice": tokens.text([int(agreement.reference_choices[index])]),
                "choice": tokens.text([int(agreement.model_choices[index])]),
            }
            for index in worst
        ],
    }


def describe(summary: dict[str, Any]) -> str:
    """The same for people."""
    from mlc_edge.visible import visible

    lines = [
        f"weights              {summary['parameter_bytes'] / 1e6:.1f} MB ({summary['target']})",
        f"perplexity           {summary['perplexity']:.3f}, the reference's "
        f"{summary['reference_perplexity']:.3f} ({summary['tokens']} tokens)",
        f"KL divergence        {summary['kl']:.4f} nats, 99th percentile "
        f"{summary['kl_99th_percentile']:.4f}",
        f"same first choice    {summary['top1_agreement']:.1%}",
        "largest errors of layers",
        *(
            f"  {each['relative_error']:.4f}  {each['layer']} ({each['format']})"
            for each in summary["worst_layers"]
        ),
        "tokens with the largest KL",
        *(
            f"  {each['kl']:.3f}  …{_shown(each['context'])}[{_shown(each['token'])}]  likeliest "
            f"{_shown(each['reference_choice'])!r}, here {_shown(each['choice'])!r}"
            for each in summary["worst_tokens"]
        ),
    ]
    return visible("\n".join(lines))


def _shown(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥")
