"""Kernels for software adapters, without barriers, against those for hardware, on a software adapter.

Both libraries are of the same bundle, a random Llama of 4 million parameters, and are measured in turn in
the same Chromium: `python -m benchmarks.browser_kernels [--rounds 3]`. Prints JSON with medians and
ratios.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from web.bench import measure
from webbuild.build import BuildRequest, build
from webbuild.effort import Rounding

POCKET = Path(__file__).parent.parent / "models" / "pocket"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
TARGETS = {"software": "webgpu-software-f32", "hardware": "webgpu-f32"}
MEASURES = ("pipeline_ms", "ttft_ms", "tpot_ms", "prefill_tokens_per_s", "wasm_gzip_bytes")


def write_checkpoint(folder: Path) -> Path:
    """Random weights in the shape of the embedded model, with a fourth layer and more vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        (folder / name).write_bytes((POCKET / name).read_bytes())
    return folder


def build_both(folder: Path) -> Path:
    """A bundle with the libraries of TARGETS."""
    output = folder / "bundle"
    request = BuildRequest(
        checkpoint=write_checkpoint(folder / "checkpoint"),
        output=output,
        targets=tuple(TARGETS.values()),
        quantization="q4f32_1",
        mlc_compatible=True,
        rounding=Rounding("fast"),
        measure=False,
    )
    build(request)
    return output


def run(rounds: int) -> dict[str, Any]:
    """Medians over `rounds` turns, and how many times better those for software adapters are."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = build_both(Path(folder))
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in TARGETS}
        for _ in range(rounds):
            for name, target in TARGETS.items():
                results[name].append(
                    measure(
                        bundle,
                        target=target,
                        prompt_words=24,
                        max_tokens=8,
                        repeats=1,
                        software=True,
                    )
                )
    medians = {
        name: {field: statistics.median(r[field] for r in measured) for field in MEASURES}
        for name, measured in results.items()
    }
    ratios = {
        field: round(medians["hardware"][field] / medians["software"][field], 2)
        for field in MEASURES
    }
    first = results["software"][0]
    return {
        "rounds": rounds,
        "browser": first["browser"],
        "adapter": first["adapter"],
        "medians": medians,
        "hardware_over_software": ratios,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each library takes")
    print(json.dumps(run(parser.parse_args().rounds), indent=1))


if __name__ == "__main__":
    main()
