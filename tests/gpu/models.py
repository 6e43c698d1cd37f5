"""Random checkpoints compiled for a GPU and called from this CPU, beside transformers' model of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from mlc_edge.bundle import read_lock
from mlc_edge.cpu import VULKAN_TARGETS, host_cpu
from mlc_edge.model_runner import CacheSizes
from mlc_edge.vulkan.runner import VulkanRunner
from tests.build.checkpoints import write_checkpoint
from tests.build.mlc_reader import read_tensors, stored_parameter
from webbuild import targets
from webbuild.build import BuildRequest, build

# More than a few tokens, which are a step of as many sequences.
CONTEXT, CHUNK = 64, 24
NARROW = {"hidden_size": 256, "num_attention_heads": 4, "head_dim": 64}
WIDE = {
    "hidden_size": 1152,
    "intermediate_size": 1190,
    "num_attention_heads": 18,
    "num_key_value_heads": 6,
    "head_dim": 64,
}
# No multiples of anything that kernels divide by.
ODD = {
    "hidden_size": 1150,
    "intermediate_size": 1187,
    "num_attention_heads": 25,
    "num_key_value_heads": 5,
    "head_dim": 46,
    "vocab_size": 1031,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "narrow-f16": ("f16", "q4mf16", NARROW),
    "software-f16": ("software-f16", "q4mf16", NARROW),
    "software-f32": ("software-f32", "q4f16_1", WIDE),
    "wide-f32": ("f32", "q4f16_1", WIDE),
    "wide-f16": ("f16", "q8f16", WIDE),
    "odd-f16": ("f16", "q0f16", {**ODD, "tie_word_embeddings": True}),
    "odd-f32": ("f32", "q4f32_1", ODD),
    "odd-software-f32": ("software-f32", "q8f32", ODD),
    "pieces-f16": ("f16", "q4mf16", {**NARROW, "vocab_size": 1031, "tie_word_embeddings": True}),
    "pieces-f32": ("f32", "q0f32", {**NARROW, "vocab_size": 1031}),
    "odd-pieces-f32": ("f32", "q4f32_1", ODD),
}
# What kernels bind of a vocabulary, where it is less than devices offer: three pieces, four and two.
BINDING_BYTES = {"pieces-f16": 50_000, "pieces-f32": 300_000, "odd-pieces-f32": 400_000}
Floats = np.ndarray


def target_name(kind: str) -> str:
    """This machine's Vulkan target of a kind such as "f16" or "software-f32"."""
    return f"vulkan-{VULKAN_TARGETS[host_cpu().arch]}-{kind}"


@dataclass
class GpuModel:
    """A bundle for one target, and the checkpoint that it was made of."""

    checkpoint: Path
    bundle: Path
    target: str

    @property
    def limits(self) -> dict[str, int]:
        """The limits that the library asks of an adapter."""
        return dict(read_lock(self.bundle).targets[self.target].needs.limits)

    def pieces(self) -> list[dict[str, Any]]:
        """Parameters that are rows of a stored tensor."""
        params = self.open_runner(sequences=1).metadata["params"]
        return [entry for entry in params if "first_row" in entry]

    def open_runner(self, *, sequences: int) -> VulkanRunner:
        """A runner with a KV cache, on the process's device."""
        sizes = CacheSizes(sequences, CONTEXT, CHUNK)
        return VulkanRunner(self.bundle, self.target, sizes=sizes)

    def logits(self, tokens: list[int]) -> Floats:
        """[n, V] after each token by transformers, with the bundle's weights, in float32."""
        model = LlamaForCausalLM.from_pretrained(self.checkpoint, dtype=torch.float32).eval()
        stored = read_tensors(self.bundle)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values = stored_parameter(name, stored, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values))
            return model(torch.tensor([tokens])).logits[0].numpy()


def build_model(folder: Path, name: str, *, mlc_compatible: bool = False) -> GpuModel:
    """One of MODELS, random, as a checkpoint and a bundle."""
    kind, quantization, shape = MODELS[name]
    target = target_name(kind)
    checkpoint = write_checkpoint(folder / "checkpoint", num_hidden_layers=2, **shape)
    bundle = folder / "bundle"
    request = BuildRequest(
        checkpoint=checkpoint,
        output=bundle,
        targets=(target,),
        quantization=quantization,
        context_window_size=CONTEXT,
        prefill_chunk_size=CHUNK,
        mlc_compatible=mlc_compatible,
    )
    with binding(BINDING_BYTES.get(name)):
        build(request)
    return GpuModel(checkpoint, bundle, target)


@contextmanager
def binding(most: int | None) -> Iterator[None]:
    """Where kernels bind at most so many bytes of a vocabulary, if they aren't to bind what they do."""
    with pytest.MonkeyPatch.context() as patch:
        if most is not None:
            profiles = [replace(profile, max_binding_bytes=most) for profile in targets.PROFILES]
            patch.setattr(targets, "PROFILES", profiles)
        yield
