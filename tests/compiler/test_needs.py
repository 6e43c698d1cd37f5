"""Limits that are counted from WGSL and from buffers."""

import pytest

from webbuild.needs import Buffers, gpu_limits, parameter_bytes, pooled

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
