"""Models on a Vulkan device: Mesa's lavapipe where there is no GPU."""

from collections.abc import Callable

import pytest

from mlc_edge.vulkan.device import find_adapter, open_device
from tests.gpu.models import GpuModel, build_model


@pytest.fixture(scope="session")
def device() -> None:
    """The device on which kernels run: a process has one."""
    open_device(find_adapter(0))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], GpuModel]:
    """One of tests.gpu.models.MODELS by its name, built once; only to be read."""
    built: dict[str, GpuModel] = {}

    def find(name: str) -> GpuModel:
        if name not in built:
            built[name] = build_model(tmp_path_factory.mktemp(name), name)
        return built[name]

    return find
