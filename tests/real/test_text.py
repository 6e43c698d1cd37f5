"""Prompts of the real model have the token ids that transformers finds in the same file."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.daemon.daemons import Daemon
from tests.real import conversations

ROOT = Path(__file__).parents[2]
CASES = json.loads(conversations.VECTORS.read_text())


@pytest.mark.real
def test_the_vectors_are_transformers():
    current = conversations.VECTORS.read_text() == conversations.render()
    assert current, "run `python -m tests.real.conversations`"


def test_the_daemon_finds_them(daemon: Daemon):
    assert len(CASES) == conversations.COUNT
    for case in CASES:
        answer = daemon.post("tokenize", json={"messages": case["messages"]}).json()
        assert answer["tokens"] == case["ids"]


def test_the_browsers_engine_finds_them(bundle: Path, tmp_path: Path):
    script = tmp_path / "tokens.mjs"
    esbuild = ["node_modules/.bin/esbuild", "tests/real/tokens.ts", "--bundle", "--format=esm"]
    options = ["--platform=node", "--log-level=warning", f"--outfile={script}"]
    subprocess.run([*esbuild, *options], check=True, cwd=ROOT)
    command = ["node", str(script), str(bundle), str(conversations.VECTORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [case["ids"] for case in CASES]
