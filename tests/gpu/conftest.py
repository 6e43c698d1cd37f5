"""A Vulkan device for TVM's WebGPU kernels: Mesa's lavapipe where there is no GPU."""

from collections.abc import Callable

import pytest

from tests.gpu.device import GpuDevice, use
from tests.gpu.models import GpuModel, build_model

# The most that kernels may use.
LIMITS = {"maxComputeWorkgroupStorageSize": 32768, "maxStorageBuffersPerShaderStage": 10}


@pytest.fixture(scope="session")
def device() -> GpuDevice:
    """The device on which kernels run. TVM keeps buffers for later: a process has one."""
    opened = GpuDevice(features=("shader-f16",), limits=LIMITS)
    use(opened)
    return opened


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], GpuModel]:
    """One of tests.gpu.models.MODELS by its name, built once; only to be read."""
    built: dict[str, GpuModel] = {}

    def find(name: str) -> GpuModel:
        if name not in built:
            built[name] = build_model(tmp_path_factory.mktemp(name), name)
        return built[name]

    return find
