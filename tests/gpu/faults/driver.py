"""A driver that fails as tests tell it: the machine's own, below a layer that is compiled here."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

LAYER = Path(__file__).parent / "layer.cc"
NAME = "VK_LAYER_mlc_edge_faults"


def compile_layer(folder: Path) -> None:
    """Into `folder`, where Vulkan's loader finds it."""
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", LAYER, "-o", folder / "layer.so"]
    subprocess.run(command, check=True)
    layer = {
        "name": NAME,
        "type": "GLOBAL",
        "library_path": "./layer.so",
        "api_version": "1.3.0",
        "implementation_version": "1",
        "description": "Faults of drivers",
    }
    manifest = {"file_format_version": "1.2.0", "layer": layer}
    (folder / "layer.json").write_text(json.dumps(manifest))


@dataclass(frozen=True)
class FaultyDriver:
    """`layer` is where it was compiled; `faults` is a file that is this driver's alone."""

    layer: Path
    faults: Path

    @property
    def environment(self) -> dict[str, str]:
        """For processes that shall have it."""
        return {
            "VK_ADD_LAYER_PATH": str(self.layer),
            "VK_INSTANCE_LAYERS": NAME,
            "MLC_EDGE_FAULTS": str(self.faults),
        }

    def fails(self, **faults: int) -> None:
        """From now on it has these faults alone, by their names in layer.cc."""
        partial = self.faults.with_suffix(".partial")
        partial.write_text("".join(f"{name} {value}\n" for name, value in faults.items()))
        partial.replace(self.faults)
