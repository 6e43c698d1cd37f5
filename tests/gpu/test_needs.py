"""What libraries ask of a GPU against what they take of one, and their self-test on it."""

from collections.abc import Callable

import pytest

from mlc_edge.engine.self_test import self_test
from mlc_edge.model_runner import CacheSizes
from mlc_edge.vulkan.device import take_statistics
from tests.gpu.models import CHUNK, CONTEXT, MODELS, GpuModel
from webbuild.checkpoint import open_checkpoint
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.interface import KVCacheShape
from webbuild.kernels.kv_cache import cache_buffers


@pytest.mark.parametrize("name", MODELS)
def test_a_library_asks_for_the_buffers_that_it_takes(model: Callable[[str], GpuModel], name: str):
    built = model(name)
    take_statistics()
    runner = built.open_runner(sequences=1)
    self_test(runner)
    runner.add_sequence(0)
    for _ in range(CONTEXT // CHUNK - 1):
        runner.prefill([0], [list(range(3, CHUNK + 3))])
    runner.decode([0], [3])
    taken = take_statistics()
    assert taken["largest_buffer"] == built.limits["maxBufferSize"]
    assert taken["largest_binding"] == built.limits["maxStorageBufferBindingSize"]


def test_a_cache_takes_the_buffers_that_are_counted(model: Callable[[str], GpuModel]):
    built = model("software-f16")
    config = open_checkpoint(built.checkpoint).model
    shape = KVCacheShape(
        layers=config.num_hidden_layers,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        rope_theta=config.rope_theta,
        rope_scaling={},
        dtype="float16",
    )
    kernels = GpuKernels("float16", barriers=False)
    runner = built.open_runner(sequences=1)
    for tokens, chunk, sequences in ((4096, 16, 1), (32, 2048, 1), (32, 16, 4)):
        counted = cache_buffers(shape, kernels, sequences=sequences, tokens=tokens, chunk=chunk)
        take_statistics()
        runner.create_cache(CacheSizes(sequences, tokens, chunk))
        assert take_statistics()["largest_buffer"] == max(*counted.bound, *counted.others)
