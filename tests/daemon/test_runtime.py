"""What a running daemon has loaded."""

import subprocess
import sys
from pathlib import Path

from tests.daemon.daemons import ROOT

SCRIPT = """
import asyncio, sys
import edge.daemon.service
from edge.daemon.config import DaemonConfig
from edge.daemon.model import ServedModel

async def load():
    model = ServedModel()
    await model.load(DaemonConfig(model=sys.argv[1]), lambda text, share: None)
    completion = await model.engine().chat.completions.create(
        messages=[{"role": "user", "content": "What is 17 + 25?"}], temperature=0)
    print(completion.to_dict()["choices"][0]["message"]["content"])
    await model.close(0)

asyncio.run(load())
maps = open("/proc/self/maps").read().split()
print(*sys.modules, *(name for name in maps if ".so" in name), sep=chr(10))
"""


def test_answering_loads_neither_compiler_nor_training(bundle: Path):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(bundle)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    answer, *loaded = result.stdout.splitlines()
    assert "42" in answer
    forbidden = ("tvm.relax", "tvm.s_tir", "webbuild", "transformers")
    assert not [name for name in loaded if name.startswith(forbidden)]
    libraries = {Path(name).name for name in loaded if "/tvm/" in name}
    assert libraries == {"libtvm_runtime.so"}
