"""A daemon whose engine has ended tells everybody and ends, for systemd to start it anew."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.daemon.daemons import ROOT, SHORT, TIMEOUT_S, Log, environment

# The engine's thread meets what no handler is made for: memory that is gone while it cleans up.
SCRIPT = """
import sys
import mlc_edge.devices as devices
from mlc_edge.cli import main

class Runner(devices.ModelRunner):
    def prefill(self, sequences, tokens):
        if any(999 in run for run in tokens):
            raise MemoryError("no memory")
        return super().prefill(sequences, tokens)

    def reset(self):
        raise MemoryError("no memory at all")

devices.ModelRunner = Runner
sys.argv = ["mlc-edge", "run", sys.argv[1], "--port", "0", "--no-page"]
main()
"""


def test_the_daemon_ends_with_its_engine(bundle: Path):
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
            answer = httpx.post(ask, json={"prompt": [999, 1]}, timeout=TIMEOUT_S)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_stopped"
            log.lines += list(lines)
            assert process.wait(TIMEOUT_S) != 0
            assert log.find("The engine has ended: no memory at all")
        except BaseException:
            process.kill()
            raise


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_the_next_request_finds_a_living_engine(daemon, path: str):
    body = SHORT if path.startswith("chat") else {"prompt": "Hello", "max_tokens": 2}
    assert daemon.ask(path, json=body).status_code == 200
