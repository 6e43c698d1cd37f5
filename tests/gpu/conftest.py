"""Models on a Vulkan device: Mesa's lavapipe where there is no GPU."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_edge.vulkan.device import find_adapter, open_device
from tests.build.conftest import run_build
from tests.conftest import POCKET
from tests.gpu.models import GpuModel, build_model, target_name


@pytest.fixture(scope="session")
def device() -> None:
    """The device on which kernels run: a process has one."""
    # Models are built in this process, too, so that it can't have TVM's runtime alone.
    importlib.import_module("tvm")
    open_device(find_adapter(0))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model for this CPU and for a device that a CPU stands in for; only to be read."""
    output = tmp_path_factory.mktemp("vulkan") / "pocket-q4f16_1"
    targets = ("--target", "native", "--target", target_name("software"))
    result = run_build(POCKET, *targets, "--quant", "q4f16_1", "--no-measure", "-o", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], GpuModel]:
    """One of tests.gpu.models.MODELS by its name, built once; only to be read."""
    built: dict[str, GpuModel] = {}

    def find(name: str) -> GpuModel:
        if name not in built:
            built[name] = build_model(tmp_path_factory.mktemp(name), name)
        return built[name]

    return find
