"""Random checkpoints whose layers matter: what rounding does to one is seen in the logits."""

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from tests.build.checkpoints import write_checkpoint


def write_sensitive_checkpoint(folder: Path, **changes: Any) -> Path:
    """As tests.build.checkpoints.write_checkpoint, with norms and weights of usual sizes."""
    write_checkpoint(folder, **changes)
    file = folder / "model.safetensors"
    tensors = {
        name: values * (20 if values.ndim == 1 else 3) for name, values in load_file(file).items()
    }
    save_file(tensors, file)
    return folder
