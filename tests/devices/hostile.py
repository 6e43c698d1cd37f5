"""A bundle whose library is a program of its own: what code that nobody knows could do here."""

import shutil
import subprocess
from pathlib import Path

from tests.devices.conftest import relock

# It takes the place of whatever process loads it.
LIBRARY = """
#include <unistd.h>
__attribute__((constructor)) static void take_over(void) {
  execl("/bin/sh", "sh", "-c", %s, (char *)0);
}
"""


def hostile_bundle(bundle: Path, output: Path, script: str) -> Path:
    """A copy of `bundle` that runs a shell script when its library is loaded."""
    shutil.copytree(bundle, output)
    text = script.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", output / "lib/native.so"],
        input=LIBRARY % f'"{text}"',
        check=True,
        text=True,
    )
    relock(output, output.name)
    return output
