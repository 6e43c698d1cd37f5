"""GGUF files as checkpoints: everything that a build needs is in one file, or in its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlc_edge.errors import CheckpointError
from mlc_edge.gguf_names import is_gguf, part_names
from mlc_edge.text_files import generation_problems
from mlc_edge.weight_index import shortened
from webbuild.checkpoint import Checkpoint, table_problems
from webbuild.gguf.blocks import BLOCK_TYPES
from webbuild.gguf.chat import chat_files
from webbuild.gguf.config import ROPE_FREQUENCIES, huggingface_config
from webbuild.gguf.header import GgufHeader, TensorInfo, read_header
from webbuild.gguf.metadata import Metadata
from webbuild.gguf.tensors import (
    IGNORED,
    GgufTensor,
    gguf_name,
    huggingface_name,
    source_tensors,
)
from webbuild.models.llama_spec import LlamaConfig, parameter_table
from webbuild.quantization.groups import Floats

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
PART_COUNT = "split.count"


def holds_gguf(path: Path) -> bool:
    """Whether `path` names a file rather than a checkpoint's folder."""
    return path.is_file() or (is_gguf(path.name) and not path.is_dir())


def open_gguf(path: Path) -> Checkpoint:
    """Check a GGUF file; raises CheckpointError that names the file and all that is wrong with it."""
    headers = _read_parts(path)
    metadata = Metadata(headers[0].metadata)
    infos = {name: info for header in headers for name, info in header.tensors.items()}
    config = huggingface_config(
        metadata,
        rope_factors=_rope_factors(headers),
        tied=HEAD not in infos,
        # Without embeddings, that they are missing is said of the tensor.
        vocab_size=infos[EMBEDDING].shape[0] if EMBEDDING in infos else 1,
    )
    problems = metadata.problems
    if not config:
        raise _error(path, problems)
    chat = chat_files(metadata)
    problems += generation_problems(chat.generation_config)
    problems += _tensor_problems(infos)
    model = _model(config, problems)
    if model is None:
        raise _error(path, problems)
    table = parameter_table(model)
    tensors: dict[str, GgufTensor] = {}
    for header in headers:
        tensors |= source_tensors(header.data, header.tensors.values(), head_dim=model.head_dim)
    problems += table_problems(table, tensors, by="its metadata", shown=gguf_name)
    wanted = {name for spec in table for name in spec.sources}
    problems += shortened(
        [
            f"tensor {gguf_name(name)} is beyond the {model.num_hidden_layers} layers of its metadata"
            for name in tensors
            if name not in wanted
        ]
    )
    if chat.tokenizer and chat.token_count > model.vocab_size:
        problems.append(f"it has {chat.token_count} tokens, and embeddings of {model.vocab_size}")
    if problems:
        raise _error(path, problems)
    return Checkpoint(path, model, table, tensors, chat)


def _read_parts(path: Path) -> list[GgufHeader]:
    """The headers of all files that the model is in, the first of which has the metadata."""
    names = part_names(path.name)
    headers = [read_header(path.with_name(name)) for name in names]
    metadata = Metadata(headers[0].metadata)
    count = metadata.integer(PART_COUNT, 1)
    if metadata.problems:
        raise _error(path, metadata.problems)
    if max(count, 1) != len(names):
        raise CheckpointError(
            f"{path}: {PART_COUNT} is {count}, so the model is in {count} files: give them the names that "
            f"they had, as in {path.stem}-00001-of-{count:05}.gguf, and name the first of them."
        )
    seen: set[str] = set()
    for header in headers:
        twice = seen & header.tensors.keys()
        if twice:
            raise CheckpointError(
                f"{header.data.path}: tensor {min(twice)!r:.80} is in another part, too: "
                "download the files again."
            )
        seen |= header.tensors.keys()
    return headers


def _rope_factors(headers: list[GgufHeader]) -> Floats | None:
    for header in headers:
        info = header.tensors.get(ROPE_FREQUENCIES)
        if info and info.type and info.row_bytes < 1 << 16:
            rows = header.data.rows(
                info.offset, info.row_bytes, np.arange(min(info.shape[0], 1 << 16))
            )
            return info.type.values(rows).reshape(-1)
    return None


def _tensor_problems(infos: Mapping[str, TensorInfo]) -> list[str]:
    problems = []
    for name, info in infos.items():
        if huggingface_name(name) is None and not IGNORED.fullmatch(name):
            problems.append(f"tensor {name!r:.80} has no place in a Llama model")
        elif info.type is None:
            known = ", ".join(block.name for block in BLOCK_TYPES.values())
            problems.append(
                f"tensor {name!r:.80} is {info.type_name}, and only these types can be read: {known}"
            )
    return shortened(problems)


def _model(config: dict[str, Any], problems: list[str]) -> LlamaConfig | None:
    try:
        return LlamaConfig.from_huggingface(config)
    except CheckpointError as error:
        # What the metadata lacks has been said under its own names.
        if not problems:
            problems.append(str(error).removeprefix("config.json: ").rstrip("."))
        return None


def _error(path: Path, problems: list[str]) -> CheckpointError:
    if len(problems) == 1:
        return CheckpointError(f"{path}: {problems[0]}.")
    listed = "".join(f"\n  - {problem}" for problem in problems)
    return CheckpointError(f"{path} has {len(problems)} problems:{listed}")
