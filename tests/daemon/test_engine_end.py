"""A daemon whose engine has ended tells everybody and ends, for systemd to start it anew."""

from pathlib import Path

import pytest

from tests.daemon.daemons import SHORT, end_of_engine

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
    code, log = end_of_engine(SCRIPT, bundle)
    assert code != 0
    assert log.find("The engine has ended: no memory at all")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_the_next_request_finds_a_living_engine(daemon, path: str):
    body = SHORT if path.startswith("chat") else {"prompt": "Hello", "max_tokens": 2}
    assert daemon.ask(path, json=body).status_code == 200
