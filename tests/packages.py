"""Copies of this project's packages, with Vulkan's plugins or without."""

import shutil
from pathlib import Path

from mlc_edge.vulkan.build import SHIPPED
from mlc_edge.vulkan.ship import ship

ROOT = Path(__file__).parents[1]


def copy_packages(folder: Path, *, shipped: bool) -> Path:
    """What an installation has in `folder`, which is made; `shipped` says whether plugins are in it."""
    ignored = shutil.ignore_patterns("__pycache__", *([] if shipped else [SHIPPED.name]))
    shutil.copytree(ROOT / "mlc_edge", folder / "mlc_edge", ignore=ignored)
    for name in ("edge", "models", "web", "webbuild"):
        (folder / name).symlink_to(ROOT / name)
    if shipped:
        ship(folder / SHIPPED.relative_to(ROOT))
    return folder
