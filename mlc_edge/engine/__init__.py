"""The engine: requests in, answers out, on one device."""

from mlc_edge.engine.config import EngineConfig
from mlc_edge.engine.engine import AsyncMLCEngine
from mlc_edge.engine.stats import EngineStats
from mlc_edge.engine.sync import MLCEngine

__all__ = ["AsyncMLCEngine", "EngineConfig", "EngineStats", "MLCEngine"]
