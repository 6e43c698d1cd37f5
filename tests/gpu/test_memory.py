"""Memory of the device: models without room are refused before they are copied, others give it back."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine
from mlc_edge.engine.config import cache_sizes
from mlc_edge.errors import EngineError
from mlc_edge.model_runner import CacheSizes
from mlc_edge.vulkan.device import take_statistics
from mlc_edge.vulkan.runner import VulkanRunner
from tests.gpu.models import CHUNK, GpuModel
from tests.gpu.processes import python


@pytest.mark.usefixtures("device")
def test_what_memory_is_too_small_for_is_not_uploaded(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mlc_edge.model_runner.available_bytes", lambda: 1 << 20)
    take_statistics()
    with pytest.raises(EngineError) as refused:
        MLCEngine(bundle, EngineConfig(device="vulkan"))
    assert refused.value.code == "out_of_memory"
    told = re.search(
        r"([\d.]+) MiB are needed \(([\d.]+) MiB of weights, .*\), 0.9 MiB may be used",
        str(refused.value),
    )
    assert told and float(told[1]) > float(told[2]) > 0.9
    assert "or use a smaller model or one that was built for a shorter context" in str(
        refused.value
    )
    # The library has constants of its own.
    assert take_statistics()["uploaded"] < 64


@pytest.mark.usefixtures("device")
def test_what_the_driver_has_no_room_for_is_not_uploaded(model: Callable[[str], GpuModel]):
    built = model("software-f16")
    take_statistics()
    with pytest.raises(
        EngineError, match=r"(?s)can't run this model: making a buffer of .*--device cpu"
    ):
        VulkanRunner(built.bundle, built.target, sizes=CacheSizes(1, 1 << 26, CHUNK))
    assert take_statistics()["uploaded"] < 64
    built.open_runner(sequences=1)
    assert take_statistics()["uploaded"] > 1 << 16


@pytest.mark.parametrize(("kind", "is_said"), [("discrete", True), ("integrated", False)])
def test_whose_memory_is_reckoned_is_said(
    model: Callable[[str], GpuModel], kind: str, *, is_said: bool
):
    runner = model("software-f16").open_runner(sequences=1)
    runner.adapter = replace(runner.adapter, kind=kind)
    with pytest.raises(EngineError) as refused:
        cache_sizes(EngineConfig(memory_limit_bytes=1), runner)
    note = f"of the machine's (how much {runner.adapter.name} has is not told)"
    assert (note in str(refused.value)) == is_said


ENGINES = """
import gc, json, sys
from mlc_edge import EngineConfig, MLCEngine
from mlc_edge.vulkan.device import take_statistics

found = []
for _ in range(3):
    with MLCEngine(sys.argv[1], EngineConfig(device="vulkan", max_total_tokens=256)) as engine:
        engine.completions.create(prompt=[1, 2, 3], max_tokens=2, ignore_eos=True)
        open_ones = take_statistics()["live_buffers"]
    del engine
    gc.collect()
    found.append([open_ones, take_statistics()["live_buffers"]])
print(json.dumps(found))
"""


def test_an_engine_that_is_closed_leaves_no_buffers(bundle: Path):
    done = python(ENGINES, bundle)
    assert done.returncode == 0, done.stderr
    for opened, closed in json.loads(done.stdout):
        # The library's constants, which the pool has back.
        assert opened > 20 and closed <= 2
