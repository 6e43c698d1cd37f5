"""TVM as a device has it: its runtime, without the compiler."""

import importlib
import os
import sys
from typing import Any, cast

# Read by TVM when it is imported: the 3 MB runtime library is enough to run a model.
RUNTIME_ONLY = "TVM_USE_RUNTIME_LIB"


def import_runtime() -> None:
    """Import TVM without its compiler; child processes are not told to do the same.

    TVM imports PyTorch where that is installed, which takes 200 MB and a second: it isn't let see it.
    """
    chosen = os.environ.get(RUNTIME_ONLY)
    os.environ[RUNTIME_ONLY] = chosen or "1"
    hidden = sys.modules.setdefault("torch", cast(Any, None)) is None
    try:
        importlib.import_module("tvm.runtime")
    finally:
        if hidden:
            del sys.modules["torch"]
        if chosen is None:
            del os.environ[RUNTIME_ONLY]
