"""What is compiled for which GPU, and what is asked of it."""

import re
import shutil
from pathlib import Path

import pytest

from mlc_edge.bundle import Needs, read_lock
from mlc_edge.devices import DeviceChoice
from mlc_edge.errors import ConfigError, ToolchainError
from webbuild.cuda import compiler
from webbuild.cuda.compiler import find_compiler
from webbuild.targets import profiles_for

SOURCE = 'extern "C" __global__ void scale(float* x) { x[threadIdx.x] *= 2; }'


@pytest.mark.parametrize(
    ("target", "arch", "capability"),
    [("cuda-sm87", "aarch64", 87), ("cuda-sm110", "aarch64", 110), ("cuda-sm90", "x86_64", 90)],
)
def test_a_group_has_the_float_type_of_its_weights(target: str, arch: str, capability: int):
    for quantization, suffix in (("q4f16_1", "f16"), ("q4f32_1", "f32")):
        (profile,) = profiles_for(target, quantization)
        assert (profile.name, profile.device) == (f"{target}-{suffix}", "cuda")
        assert (profile.features, profile.adapter) == ((arch,), {"computeCapability": capability})
    assert [p.name for p in profiles_for(f"{target}-f32", "q4f16_1")] == [f"{target}-f32"]


@pytest.mark.parametrize("capability", [87, 90, 110])
def test_nvrtc_makes_ptx_for_each_capability(capability: int):
    ptx = find_compiler("cuda").compile(SOURCE, capability).decode()
    assert f".target sm_{capability}\n" in ptx and ".entry scale(" in ptx
    with pytest.raises(ToolchainError, match=f"for sm_{capability}: "):
        find_compiler("cuda").compile("no C++", capability)


def test_without_a_compiler_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiler, "PACKAGES", "nvidia.nothing")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolchainError, match=r"pip install 'mlc-edge\[cuda\]'"):
        find_compiler("cuda-sm87-f16")


def test_a_library_has_ptx_of_all_its_kernels(bundle: Path):
    target = read_lock(bundle).targets["cuda-native-f16"]
    version = {"cudaVersion": find_compiler("cuda").version}
    assert target.needs == Needs(("x86_64",), {}, {"computeCapability": 90, **version})
    content = (bundle / target.library).read_bytes()
    assert content.count(b".target sm_90\n") == 1 and b"#include <cuda" not in content
    entries = set(re.findall(rb"\.entry (\w+)\(", content))
    # What host code asks the module for, by the names that are packed with it.
    named = set(re.findall(rb"\w+_kernel(?:_\d+)?", content[: content.index(b".target sm_90")]))
    assert len(entries) > 40 and entries <= named


def test_devices_are_named_with_their_index():
    assert (
        str(DeviceChoice.parse("cuda:1")) == "cuda:1"
        and str(DeviceChoice.parse("cuda")) == "cuda:0"
    )
    with pytest.raises(ConfigError, match="target vulkan-x86-64 is not for the device cuda"):
        DeviceChoice.parse("cuda").require("vulkan-x86-64")
    DeviceChoice.parse("cuda").require("cuda-sm87")
