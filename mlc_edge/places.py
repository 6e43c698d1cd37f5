"""Where this program keeps what it makes: compiled models, and what it has verified."""

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MLC_EDGE_CACHE"
# Where children import this package: never in the current folder, which may be a stranger's checkpoint or
# hold modules by the names of others.
PACKAGES = Path(__file__).parents[1]


def cache_folder() -> Path:
    """`$MLC_EDGE_CACHE`, or the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).absolute() if chosen else user_cache_path("mlc-edge")


def child_environment() -> dict[str, str]:
    """This process's environment, for one that works in another folder."""
    chosen = {CACHE_VARIABLE: str(cache_folder())} if os.environ.get(CACHE_VARIABLE) else {}
    return {**os.environ, **chosen}


def bundles_folder() -> Path:
    """Compiled checkpoints, each in a folder of its own."""
    return cache_folder() / "bundles"


def records_folder() -> Path:
    """Records of verified bundles: in the state directory that systemd gives a service, or the cache."""
    # systemd.exec(5): several folders are separated by colons.
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(given) if given else cache_folder()) / "verified"


def speeds_folder() -> Path:
    """How fast this machine's devices were with each model."""
    return cache_folder() / "speeds"
