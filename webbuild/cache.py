"""Where the build keeps what it makes once: in the project's folder, or in the user's cache."""

import os
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def cache_folder() -> Path:
    """`$MLC_EDGE_CACHE`, else `.cache` of a checkout, else the user's cache folder."""
    if chosen := os.environ.get("MLC_EDGE_CACHE"):
        return Path(chosen)
    if (PROJECT / "pyproject.toml").exists():
        return PROJECT / ".cache"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlc-edge"
