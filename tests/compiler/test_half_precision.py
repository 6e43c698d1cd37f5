"""float16 kernels on a Vulkan device with shader-f16, Mesa's lavapipe, against NumPy."""

import re
from typing import Any

import numpy as np
import pytest
import wgpu

from tests.build.checkpoints import CONFIG
from webbuild.compiler import CompileOptions, compile_kernels
from webbuild.models.llama_spec import LlamaConfig
from webbuild.targets import profiles_for

WIDTH = 256
STORAGE = re.compile(r"@binding\((\d+)\) var<storage, (read|read_write)>\s*(\w+)")


@pytest.fixture(scope="module")
def kernels() -> dict[str, str]:
    """WGSL by kernel of a float16 library whose layers are 256 wide."""
    shape = {"hidden_size": WIDTH, "num_attention_heads": 4, "head_dim": 64}
    config = LlamaConfig.from_huggingface({**CONFIG, **shape})
    (profile,) = profiles_for("webgpu-f16", "q4f16_1")
    options = CompileOptions(context_window_size=256, prefill_chunk_size=64)
    return compile_kernels(config, "q4f16_1", profile, options)


@pytest.fixture(scope="module")
def device() -> wgpu.GPUDevice:
    found = [a for a in wgpu.gpu.enumerate_adapters_sync() if "shader-f16" in a.features]
    assert found, "no adapter has shader-f16: install mesa-vulkan-drivers"
    return found[0].request_device_sync(required_features=["shader-f16"])


def launch(
    device: wgpu.GPUDevice, name: str, source: str, arrays: list[np.ndarray]
) -> dict[str, bytes]:
    """Run a kernel of WIDTH outputs on `arrays`, in the order of its bindings; its outputs by name."""
    module = device.create_shader_module(code=source)
    stage = {"module": module, "entry_point": name}
    pipeline = device.create_compute_pipeline(layout="auto", compute=stage)
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    buffers = [device.create_buffer_with_data(data=array, usage=usage) for array in arrays]
    groups = WIDTH // 64
    grid = device.create_buffer_with_data(
        data=np.array([groups, 0, 0, 0], np.int32), usage=wgpu.BufferUsage.UNIFORM
    )
    entries: list[dict[str, Any]] = [
        {"binding": index, "resource": {"buffer": buffer}}
        for index, buffer in enumerate([*buffers, grid])
    ]
    layout = pipeline.get_bind_group_layout(0)
    encoder = device.create_command_encoder()
    compute = encoder.begin_compute_pass()
    compute.set_pipeline(pipeline)
    compute.set_bind_group(0, device.create_bind_group(layout=layout, entries=entries))
    compute.dispatch_workgroups(groups, 1, 1)
    compute.end()
    device.queue.submit([encoder.finish()])
    return {
        variable: bytes(device.queue.read_buffer(buffers[int(index)]))
        for index, access, variable in STORAGE.findall(source)
        if access == "read_write"
    }


def test_every_kernel_compiles(device: wgpu.GPUDevice, kernels: dict[str, str]):
    for name, source in kernels.items():
        stage = {"module": device.create_shader_module(code=source), "entry_point": name}
        device.create_compute_pipeline(layout="auto", compute=stage)


def test_quantised_matmul_with_residual(device: wgpu.GPUDevice, kernels: dict[str, str]):
    random = np.random.default_rng(0)
    x, residual = random.standard_normal((2, WIDTH)).astype(np.float16)
    values = random.integers(0, 15, (WIDTH, WIDTH))
    scales = (random.random((WIDTH, WIDTH // 32)) * 0.02).astype(np.float16)
    words = (values.reshape(WIDTH, -1, 8) << (4 * np.arange(8))).sum(-1).astype(np.uint32)
    weight = (values - 7) * np.repeat(scales.astype(np.float64), 32, axis=1)
    expected = weight @ x.astype(np.float64) + residual

    name, source = _decode_kernel(kernels, r"fused_q4_linear\w*_add\w*_kernel", "o_proj")
    output = np.zeros(WIDTH, np.float16)
    given = {"q_scale": scales, "q_weight": words, "reshape": x, "input_embed": residual}
    arrays = [
        output if access == "read_write" else _by_part(given, variable)
        for _, access, variable in STORAGE.findall(source)
    ]
    (raw,) = launch(device, name, source, arrays).values()
    actual = np.frombuffer(raw, np.float16).astype(np.float64)
    assert np.abs(actual - expected).max() <= 2e-3 * np.abs(expected).max()


def _decode_kernel(kernels: dict[str, str], pattern: str, parameter: str) -> tuple[str, str]:
    """The kernel for a single row: the one whose grid has no other uniform."""
    return next(
        (name, source)
        for name, source in kernels.items()
        if re.fullmatch(pattern, name)
        and parameter in source
        and re.search(r"struct PODArgs \{\s*packGridDimX: u32\s*\}", source)
    )


def _by_part(given: dict[str, np.ndarray], variable: str) -> np.ndarray:
    return next(array for part, array in given.items() if part in variable)
