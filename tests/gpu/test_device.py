"""The Vulkan device itself: what it is asked to do for a token, what it refuses, and its end."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tvm.runtime import device as tvm_device
from tvm.runtime import empty, tensor

from mlc_edge.bundle import BundleTarget, Needs
from mlc_edge.devices import DeviceChoice
from mlc_edge.errors import ConfigError, EngineError
from mlc_edge.model_runner import CacheSizes
from mlc_edge.vulkan.device import adapters, find_adapter, open_device, take_statistics
from mlc_edge.vulkan.runner import build_target
from tests.gpu.models import CHUNK, GpuModel, target_name
from tests.gpu.processes import python

RESULTS = np.random.default_rng(0)


def test_a_token_is_one_submit_and_leaves_nothing_behind(model: Callable[[str], GpuModel]):
    runner = model("software-f16").open_runner(sequences=1)
    runner.add_sequence(0)
    runner.prefill([0], [list(range(3, CHUNK))])
    for _ in range(8):
        runner.decode([0], [3])
    take_statistics()
    for _ in range(3):
        runner.decode([0], [3])
    done = take_statistics()
    assert (done["submits"], done["waits"]) == (3, 3)
    # Another follows what is uploaded before the first kernel and between embedding and layers.
    assert done["passes"] <= 2 * 3
    assert done["dispatches"] > 3 * 10
    assert done["buffers"] == done["bind_groups"] == done["pipelines"] == 0


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("count", [0, 1, 5, 4096, 4098, 5_000_001])
def test_bytes_come_back_as_they_were_sent(count: int):
    gpu = tvm_device("webgpu", 0)
    values = RESULTS.integers(0, 256, count, np.uint8)
    sent = tensor(values, gpu)
    copied = empty((count,), "uint8", gpu)
    copied.copyfrom(sent)
    assert (copied.numpy() == values).all()
    assert (sent.numpy() == values).all()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("count", [1, 6, 7, 20_001])
@pytest.mark.parametrize("is_on_device", [True, False], ids=["copied", "uploaded"])
def test_what_follows_the_last_byte_stays(count: int, *, is_on_device: bool):
    gpu = tvm_device("webgpu", 0)
    values = RESULTS.integers(0, 256, count + 16, np.uint8)
    written = RESULTS.integers(0, 256, count, np.uint8)
    whole = tensor(values, gpu)
    part = whole._create_view((count,), "uint8", 8)
    part.copyfrom(tensor(written, gpu) if is_on_device else written)
    assert (whole.numpy() == np.concatenate([values[:8], written, values[8 + count :]])).all()


@pytest.mark.usefixtures("device")
def test_what_is_written_between_commands_is_seen_in_their_order():
    gpu = tvm_device("webgpu", 0)
    sizes = (64, 1 << 16)
    for size in sizes:
        source, target = empty((size,), "uint8", gpu), empty((size,), "uint8", gpu)
        for value in (1, 2):
            source.copyfrom(np.full(size, value, np.uint8))
            if value == 1:
                target.copyfrom(source)
        assert (target.numpy() == 1).all() and (source.numpy() == 2).all()


@pytest.mark.usefixtures("device")
def test_a_buffer_that_is_too_large_is_an_error_and_no_end():
    gpu = tvm_device("webgpu", 0)
    with pytest.raises(RuntimeError, match=r"making a buffer of 1099511627776 bytes failed"):
        empty((1 << 40,), "uint8", gpu)
    assert (tensor(np.arange(4), gpu).numpy() == np.arange(4)).all()


def test_a_cache_that_the_device_can_not_hold_is_an_error(model: Callable[[str], GpuModel]):
    runner = model("software-f16").open_runner(sequences=1)
    with pytest.raises(
        EngineError, match=r"vulkan:0 \(.*\) can't run this model: making a buffer of"
    ):
        runner.create_cache(CacheSizes(1, 1 << 26, CHUNK))
    runner.create_cache(CacheSizes(1, runner.max_cache_tokens, CHUNK))
    runner.add_sequence(0)
    assert runner.prefill([0], [[3, 4, 5]]).shape[0] == 1


def test_checkpoints_are_compiled_for_the_class_of_the_adapter():
    adapter = find_adapter(0)
    steps: list[str] = []
    target = DeviceChoice.parse("vulkan").build_target(lambda step, _: steps.append(step))
    assert target == build_target(adapter) and not steps
    assert build_target(replace(adapter, kind="software")) == target_name("software")
    real = replace(adapter, kind="discrete")
    assert build_target(real) == target_name("f16").removesuffix("-f16")


def test_an_adapter_says_what_it_lacks():
    adapter = find_adapter(0)
    needs = Needs(
        ("x86_64", "shader-f16", "subgroups"),
        {"maxBufferSize": 1 << 60, "maxComputeWorkgroupSizeX": 64},
        {"subgroupMinSize": 1024},
    )
    lacking = adapter.lacks(BundleTarget("vulkan", "lib/a.so", "tensor-cache.json", 8, needs))
    assert lacking == [
        f"maxBufferSize of {1 << 60} (it has {adapter.limits['maxBufferSize']})",
        "subgroupMinSize of 1024 (it has 0)",
    ]


@pytest.mark.usefixtures("device")
def test_another_adapter_is_refused_while_one_is_open():
    count = len(adapters())
    with pytest.raises(ConfigError, match=rf"no Vulkan adapter {count}: use one of vulkan:0 \("):
        find_adapter(count)
    open_device(find_adapter(0))


KERNEL = """
import sys
from mlc_edge.model_runner import CacheSizes
from mlc_edge.vulkan import device
from mlc_edge.vulkan.runner import VulkanRunner
from pathlib import Path
runner = VulkanRunner(Path(sys.argv[1]), sizes=CacheSizes(1, 64, 16))
runner.add_sequence(0)
runner.prefill([0], [[3, 4, 5]])
"""


def test_a_lost_device_is_an_error_that_stays(model: Callable[[str], GpuModel]):
    lose = """
device._function("lose")()
for work in (lambda: runner.decode([0], [3]), runner.reset, lambda: runner.decode([0], [3])):
    try:
        work()
    except RuntimeError as error:
        print(error)
"""
    done = python(KERNEL + lose, model("software-f16").bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the Vulkan device is lost: it was destroyed") == 3


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise SystemExit(3)", "del runner"])
def test_a_process_ends_in_order_whatever_is_alive(model: Callable[[str], GpuModel], end: str):
    done = python(KERNEL + end, model("software-f16").bundle)
    assert done.returncode == (3 if "3" in end else 0)
    assert done.stderr == ""


def test_kernels_that_the_driver_refuses_are_named(model: Callable[[str], GpuModel]):
    bundle = model("software-f16").bundle
    script = """
import sys
from pathlib import Path
from mlc_edge.vulkan.device import find_adapter, open_device
open_device(find_adapter(0))
from tvm_ffi import load_module
library = Path(sys.argv[1])
broken = Path(sys.argv[2])
broken.write_bytes(library.read_bytes().replace(b"@compute", b"@fragmen"))

def walk(module):
    yield module
    for imported in module.imports:
        yield from walk(imported)

(kernels,) = (module for module in walk(load_module(broken)) if module.kind == "webgpu")
try:
    kernels["vulkan.prepare"]([])
except RuntimeError as error:
    print(error)
"""
    library = next(bundle.glob("lib/*.so"))
    done = python(script, library, bundle.parent / "broken.so")
    assert done.returncode == 0, done.stderr
    assert "reading the kernel" in done.stdout or "compiling the kernel" in done.stdout
