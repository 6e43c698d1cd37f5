"""Compile a language model once, run it in a browser, on a Raspberry Pi, on a Jetson."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mlc_edge.version import __version__

__all__ = ["AsyncMLCEngine", "EngineConfig", "EngineStats", "MLCEngine", "__version__"]

if TYPE_CHECKING:
    from mlc_edge.engine import AsyncMLCEngine, EngineConfig, EngineStats, MLCEngine


def __getattr__(name: str) -> Any:
    """The engine, loaded when it is asked for: other users of this package don't need it."""
    if name in __all__:
        engine = "mlc_edge.in_browser" if sys.platform == "emscripten" else "mlc_edge.engine"
        return getattr(importlib.import_module(engine), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
