"""`mlc-edge` itself; each command has tests of its own."""

import os
import re
import subprocess
import sys

from mlc_edge.cli import COMMANDS


def test_help_names_every_command():
    result = subprocess.run(
        [sys.executable, "-m", "mlc_edge", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
    )
    assert result.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^\W*{name} +[A-Z]", result.stdout, re.MULTILINE), name
