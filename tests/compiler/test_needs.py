"""Limits that are counted from WGSL and from buffers, and those that libraries stay within."""

import pytest

from tests.build.checkpoints import CONFIG
from webbuild.compiler import CompileOptions, compile_kernels
from webbuild.models.llama_spec import LlamaConfig, parameter_table
from webbuild.needs import Buffers, gpu_limits, parameter_bytes, pooled
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import find_quantization
from webbuild.targets import WEBGPU_PROFILES, TargetProfile

# What a device has that says nothing else, of https://www.w3.org/TR/webgpu/#limits.
DEFAULTS = {
    "maxComputeWorkgroupStorageSize": 16384,
    "maxComputeInvocationsPerWorkgroup": 256,
    "maxComputeWorkgroupSizeX": 256,
    "maxComputeWorkgroupSizeY": 256,
    "maxComputeWorkgroupSizeZ": 64,
    "maxStorageBuffersPerShaderStage": 8,
}
# Query heads, heads of keys and values, features of a head, words of the vocabulary.
SHAPES = [
    (14, 2, 64, 4096),
    (32, 32, 96, 32064),
    (24, 8, 128, 128256),
    (12, 12, 128, 49152),
    (8, 1, 256, 32000),
]
# Without barriers threads share nothing, whatever the shape.
LIBRARIES = [
    pytest.param(profile, shape, id=f"{profile.name}-{shape}")
    for profile in WEBGPU_PROFILES
    for shape in (SHAPES if profile.kernels == "gpu" else SHAPES[:1])
]
PLAIN = """
@group(0) @binding(0) var<storage, read> a : array<f32>;
@group(0) @binding(1) var<storage, read_write> b : array<f32>;
@compute @workgroup_size(64, 1, 1)
fn first_kernel() {}
"""
SHARED = """
@group(0) @binding(0) var<storage, read_write> a : array<f32>;
var<workgroup> rows : array<vec4<f16>, 96>;
var<workgroup> sums : array<f32, 10>;
@compute @workgroup_size(8, 16, 2)
fn second_kernel() {}
"""


def test_every_limit_is_that_of_the_kernel_that_needs_most():
    assert gpu_limits([PLAIN, SHARED], Buffers(bound=(1000, 3000), others=(5000,))) == {
        "maxStorageBufferBindingSize": 3000,
        "maxBufferSize": 5000,
        "maxComputeInvocationsPerWorkgroup": 256,
        "maxComputeWorkgroupSizeX": 64,
        "maxComputeWorkgroupSizeY": 16,
        "maxComputeWorkgroupSizeZ": 2,
        "maxStorageBuffersPerShaderStage": 2,
        "maxComputeWorkgroupStorageSize": 96 * 4 * 2 + 10 * 4,
    }


@pytest.mark.parametrize(("size", "expected"), [(1, 4096), (4096, 4096), (4097, 8192)])
def test_temporaries_take_whole_pages(size: int, expected: int):
    assert pooled(size) == expected


def test_a_parameters_bytes_are_those_of_its_type():
    assert parameter_bytes({"shape": [3, 5], "dtype": "float16"}) == 30
    assert parameter_bytes({"shape": [7], "dtype": "uint32"}) == 28


@pytest.mark.parametrize(("profile", "shape"), LIBRARIES)
def test_kernels_need_no_more_than_every_device_offers(
    profile: TargetProfile, shape: tuple[int, int, int, int]
):
    heads, kv_heads, width, vocabulary = shape
    fields = {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
        "vocab_size": vocabulary,
        "num_hidden_layers": 1,
    }
    config = LlamaConfig.from_huggingface({**CONFIG, **fields})
    formats = choose_formats(parameter_table(config), find_quantization("q4f16_1"))
    options = CompileOptions(context_window_size=64, prefill_chunk_size=16)
    sources = compile_kernels(config, formats, profile, options)
    needs = gpu_limits(sources.values(), Buffers(bound=(1,), others=(1,)))
    assert {name: needs[name] for name in DEFAULTS if needs[name] > DEFAULTS[name]} == {}
