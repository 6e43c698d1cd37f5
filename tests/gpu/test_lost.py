"""A daemon whose Vulkan device is lost in the middle of an answer: it says so and ends."""

import subprocess
import sys
from pathlib import Path

import httpx

from tests.build.conftest import run_build
from tests.conftest import POCKET
from tests.daemon.daemons import ROOT, TIMEOUT_S, Log, environment
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
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(bundle)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:
        assert process.stderr
        log = Log()
        try:
            lines = iter(process.stderr)
            for line in lines:
                log.lines.append(line)
                if "ready: " in line:
                    break
            url = log.find(r"listening on (http://\S+/)")
            assert url, log.lines
            ask = f"{url[1]}v1/completions"
            alive = httpx.post(ask, json={"prompt": "Hello", "max_tokens": 2}, timeout=TIMEOUT_S)
            assert alive.status_code == 200
            answer = httpx.post(ask, json={"prompt": [999, 1]}, timeout=TIMEOUT_S)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_stopped"
            log.lines += list(lines)
            assert process.wait(TIMEOUT_S) == 2
            assert log.find("The engine has ended: the Vulkan device is lost")
        except BaseException:
            process.kill()
            raise
