"""A daemon whose Vulkan device is lost in the middle of an answer: it says so and ends."""

from pathlib import Path

from tests.build.conftest import run_build
from tests.conftest import POCKET
from tests.daemon.daemons import end_of_engine
from tests.gpu.models import target_name

# Loses the device at a token that requests can name, as a driver would at any.
SCRIPT = """
import sys
import mlc_edge.devices as devices
from mlc_edge.cli import main
from mlc_edge.vulkan import device

class Runner(devices.VulkanRunner):
    def prefill(self, sequences, tokens):
        if any(999 in run for run in tokens):
            device._function("lose")()
        return super().prefill(sequences, tokens)

devices.VulkanRunner = Runner
sys.argv = ["mlc-edge", "run", sys.argv[1], "--port", "0", "--no-page"]
main()
"""


def test_the_daemon_ends_with_its_device(tmp_path: Path):
    bundle = tmp_path / "pocket-q4f16_1"
    options = ("--target", target_name("software-f16"), "--quant", "q4f16_1", "--no-measure")
    result = run_build(POCKET, *options, "-o", bundle)
    assert result.returncode == 0, result.stderr
    code, log = end_of_engine(SCRIPT, bundle)
    assert code == 2
    assert log.find("The engine has ended: the Vulkan device is lost")
