"""Random checkpoints compiled for this machine, beside transformers' model of the same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.build.checkpoints import write_checkpoint
from tests.build.conftest import checkpoint, run_build
from tests.compiler.one_sequence import OneSequence

Floats = npt.NDArray[np.float32]
CHUNK = 16


@dataclass
class Compiled:
    """A checkpoint, its bundle with a native library, and that library loaded.

    `phases` has the modules after each phase, in a folder for each target.
    """

    checkpoint: Path
    bundle: Path
    runner: OneSequence
    phases: Path

    def reference(self) -> LlamaForCausalLM:
        return LlamaForCausalLM.from_pretrained(self.checkpoint, dtype=torch.float32).eval()


def logits_of(model: LlamaForCausalLM, tokens: list[int]) -> Floats:
    """[n, V] after each token."""
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def assert_close(actual: Floats, expected: Floats, tolerance: float = 1e-3) -> None:
    """Largest difference relative to the largest logit."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.fixture(scope="session")
def compile_native(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Compiled]:
    cache: dict[str, Compiled] = {}

    def compile_checkpoint(
        quant: str = "q0f32",
        *,
        first: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        **changes: Any,
    ) -> Compiled:
        """`first` names targets that are built before the native one, in the same process."""
        key = repr((quant, first, options, changes))
        if key not in cache:
            folder = tmp_path_factory.mktemp("native")
            checkpoint = write_checkpoint(folder / "checkpoint", **changes)
            output = folder / "bundle"
            targets = [word for name in (*first, "native") for word in ("--target", name)]
            phases = folder / "phases"
            sizes = ("--quant", quant, "--prefill-chunk-size", CHUNK)
            words = (*targets, *sizes, *options, "--dump-ir", phases)
            result = run_build(checkpoint, *words, "-o", output)
            assert result.returncode == 0, result.stderr
            cache[key] = Compiled(checkpoint, output, OneSequence(output), phases)
        cache[key].runner.reset()
        return cache[key]

    return compile_checkpoint


__all__ = ["checkpoint"]
