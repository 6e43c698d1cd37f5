"""What a decode step in the browser tells a GPU to do: `python -m benchmarks.step_table [--shape 1.1b]`.

Prints a table in Markdown. The library has a model's widths and few of its layers, and its kernels are
compiled without their work: nothing is measured, all is counted. Bytes are those of the buffers that a kernel
may read or write.
"""

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import MAX_CONTEXT, SHAPES, Shape, model_config
from tests.browser import bundle_script, serving
from web.browser import chromium
from webbuild.compiler import CompileOptions, build_library
from webbuild.models.llama_spec import LlamaConfig, parameter_table
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import find_quantization
from webbuild.targets import profiles_for

# No kernel but a layer's is launched so often in a step.
LAYERS = 3
CONTEXTS = (128, 4096)
CHUNK = 512
SCRIPT = (
    '<!doctype html><link rel="icon" href="data:,"><script type="module" src="table.js"></script>'
)
COLUMNS = ("kernel", "dispatches", "threads", "barriers", "workgroups", "MB")
Dispatches = list[dict[str, Any]]


def compile_library(shape: Shape, path: Path) -> None:
    """A browser's library for GPUs."""
    longest = {"max_position_embeddings": max(*CONTEXTS, MAX_CONTEXT) + CHUNK}
    config = LlamaConfig.from_huggingface({**model_config(shape), **longest})
    formats = choose_formats(parameter_table(config), find_quantization("q4f32_1"))
    (profile,) = profiles_for("webgpu-f32", "q4f32_1")
    options = CompileOptions(context_window_size=max(CONTEXTS) + CHUNK, prefill_chunk_size=CHUNK)
    build_library(config, formats, profile, path, options)


def steps(shape: Shape) -> dict[int, Dispatches]:
    """A step's dispatches, by context."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_library(replace(shape, num_hidden_layers=LAYERS), folder / "library.wasm")
        bundle_script(Path(__file__).with_suffix(".ts"), folder / "table.js")
        (folder / "page.html").write_text(SCRIPT)
        found = {}
        with serving(folder) as url, chromium(software=True) as browser:
            for context in CONTEXTS:
                page = browser.new_page()
                page.set_default_timeout(300_000)
                page.goto(f"{url}page.html")
                page.wait_for_function("globalThis.ready === true")
                ask = "(context) => stepAfter('library.wasm', context)"
                found[context] = page.evaluate(ask, context)
                page.close()
        return found


def table(shape: Shape, found: dict[int, Dispatches]) -> str:
    """Markdown: a row for each of a layer's kernels, then for what comes once a step."""
    first, *others = found.values()
    counts = Counter(dispatch["name"] for dispatch in first)
    last = {name: [by_name(step)[name] for step in (first, *others)] for name in counts}
    in_layers = {name: count // LAYERS for name, count in counts.items() if count % LAYERS == 0}
    once = {name: count for name, count in counts.items() if name not in in_layers}
    rows = [row(name, f"{count} a layer", last[name]) for name, count in in_layers.items()]
    rows += [row(name, f"{count} a token", last[name]) for name, count in once.items()]
    a_layer = sum(in_layers.values())
    total = shape.num_hidden_layers * a_layer + sum(once.values())
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS), *rows]
    lines += [
        "",
        f"{a_layer} dispatches a layer, {total} a token of {shape.num_hidden_layers} layers.",
    ]
    return "\n".join(lines)


def by_name(step: Dispatches) -> dict[str, dict[str, Any]]:
    """The last dispatch of each kernel."""
    return {dispatch["name"]: dispatch for dispatch in step}


def row(name: str, count: str, dispatches: list[dict[str, Any]]) -> str:
    """Of a kernel, by context where that changes anything."""
    one = dispatches[0]
    workgroups = [f"{dispatch['workgroups']:,}" for dispatch in dispatches]
    sizes = [f"{dispatch['bytes'] / 1e6:.2f}" for dispatch in dispatches]
    grown = [" to ".join(dict.fromkeys(values)) for values in (workgroups, sizes)]
    cells = (f"`{name}`", count, str(one["threads"]), str(one["barriers"]), *grown)
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    shape = SHAPES[parser.parse_args().shape]
    print(table(shape, steps(shape)))


if __name__ == "__main__":
    main()
