"""What steps in the browser tell a GPU to do: `python -m benchmarks.step_table [--shape 1.1b]`.

Prints tables in Markdown, for a token and for a chunk of a prompt. The library has a model's widths and few
of its layers, and its kernels are compiled without their work: nothing is measured, all is counted. Bytes
are those of the buffers that a kernel may read or write.
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


def steps(shape: Shape) -> tuple[list[Dispatches], Dispatches]:
    """A token's dispatches after each of CONTEXTS, and those of a chunk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_library(replace(shape, num_hidden_layers=LAYERS), folder / "library.wasm")
        bundle_script(Path(__file__).with_suffix(".ts"), folder / "table.js")
        (folder / "page.html").write_text(SCRIPT)
        with serving(folder) as url, chromium(software=True) as browser:

            def ask(function: str, tokens: int) -> Dispatches:
                page = browser.new_page()
                page.set_default_timeout(300_000)
                page.goto(f"{url}page.html")
                page.wait_for_function("globalThis.ready === true")
                found: Dispatches = page.evaluate(
                    f"(tokens) => {function}('library.wasm', tokens)", tokens
                )
                page.close()
                return found

            return [ask("stepAfter", context) for context in CONTEXTS], ask("prompt", CHUNK)


def table(shape: Shape, unit: str, found: list[Dispatches]) -> str:
    """Markdown: a row for each of a layer's kernels, then for what comes once a `unit`."""
    first, *others = found
    counts = Counter(dispatch["name"] for dispatch in first)
    last = {name: [by_name(step)[name] for step in (first, *others)] for name in counts}
    in_layers = {name: count // LAYERS for name, count in counts.items()}
    once = {name: count % LAYERS for name, count in counts.items()}
    rows = [
        row(name, often(in_layers[name], once[name], unit), last[name])
        for name in sorted(counts, key=lambda name: in_layers[name] == 0)
    ]
    a_layer = sum(in_layers.values())
    total = shape.num_hidden_layers * a_layer + sum(once.values())
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS), *rows]
    lines += [
        "",
        f"{a_layer} dispatches a layer, {total} a {unit} of {shape.num_hidden_layers} layers.",
    ]
    return "\n".join(lines)


def often(in_layers: int, once: int, unit: str) -> str:
    """How often a kernel is launched."""
    parts = {f"{in_layers} a layer": in_layers, f"{once} a {unit}": once}
    return ", ".join(text for text, count in parts.items() if count)


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
    tokens, chunk = steps(shape)
    print(table(shape, "token", tokens), table(shape, "chunk", [chunk]), sep="\n\n")


if __name__ == "__main__":
    main()
