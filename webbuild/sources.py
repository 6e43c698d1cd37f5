"""Checkpoints by their path: a folder of Hugging Face's files, or a GGUF file."""

from pathlib import Path

from webbuild.checkpoint import Checkpoint, open_checkpoint
from webbuild.gguf.checkpoint import holds_gguf, open_gguf


def open_source(path: Path) -> Checkpoint:
    """The checkpoint at `path`; raises CheckpointError that lists all that is wrong with it."""
    return open_gguf(path) if holds_gguf(path) else open_checkpoint(path)
