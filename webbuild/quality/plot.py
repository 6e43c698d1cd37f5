"""A picture of a comparison: errors of layers, and how KL divergences are spread."""

import importlib.util
from pathlib import Path

import numpy as np

from mlc_edge.errors import ConfigError
from webbuild.quality.compare import ComparedModel

TYPES = (".svg", ".png")


def check_plot(file: Path) -> None:
    """Raise ConfigError if `file` can't be drawn."""
    if file.suffix.lower() not in TYPES:
        raise ConfigError(f"--plot {file}: name a file that ends in {' or '.join(TYPES)}.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(
            f"--plot {file}: there is no folder {file.absolute().parent}: make it first."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'mlc-edge[plot]'.")


def draw(file: Path, result: ComparedModel, *, title: str) -> None:
    """Write the picture to `file`, replacing it as a whole."""
    # Without pyplot, which looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    layers, tokens = figure.subplots(1, 2)
    for kind in sorted({_kind(each.layer) for each in result.layers}):
        errors = [each.error for each in result.layers if _kind(each.layer) == kind]
        layers.plot(errors, marker=".", label=kind)
    layers.set(xlabel="decoder layer", ylabel="relative error of the output")
    layers.legend()
    ordered = np.sort(result.agreement.divergences)
    tokens.plot(ordered, (np.arange(len(ordered)) + 1) / len(ordered))
    tokens.set(xscale="symlog", xlabel="KL divergence (nats)", ylabel="share of tokens")
    temporary = file.with_name(f".{file.name}.part")
    figure.savefig(temporary, format=file.suffix[1:].lower())
    temporary.replace(file)


def _kind(layer: str) -> str:
    return layer.rpartition(".")[2]
