"""Weights that are in MLC's format already: checked, then taken over byte for byte."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.errors import ConfigError
from webbuild.checkpoint import DOWNLOAD, TOKEN_FIELDS, ChatFiles, FolderReader
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.spec import ParameterSpec
from webbuild.quantization import FORMATS, OutputTensor, find_quantization, output_tensors
from webbuild.tensor_cache import TENSOR_CACHE_NAME, hash_md5, write_index

INDEX_NAMES = (TENSOR_CACHE_NAME, "ndarray-cache.json")
CHAT_CONFIG_NAME = "mlc-chat-config.json"
# Fields of MLC's model_config under the names that Hugging Face's config.json has for them.
RENAMED = {
    "position_embedding_base": "rope_theta",
    "context_window_size": "max_position_embeddings",
}
GENERATION_FIELDS = (*TOKEN_FIELDS, "temperature", "top_p", "repetition_penalty")
ITEM_BYTES = {"uint32": 4, "float32": 4, "float16": 2}


@dataclass(frozen=True)
class PublishedWeights:
    """A folder of weights in MLC's format whose files are all there and fit each other."""

    folder: Path
    model: LlamaConfig
    table: Sequence[ParameterSpec]
    chat: ChatFiles
    quantization: str
    index: dict[str, Any]

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard["nbytes"] for shard in self.index["records"])

    def copy_weights(self, folder: Path) -> None:
        """Take the shards over, byte for byte, with their index under its present name."""
        for shard in self.index["records"]:
            shutil.copyfile(self.folder / shard["dataPath"], folder / shard["dataPath"])
        write_index(folder, self.index)


def holds_published_weights(folder: Path) -> bool:
    """Whether `folder` has weights in MLC's format and none of Hugging Face's."""
    indexed = any((folder / name).is_file() for name in INDEX_NAMES)
    return indexed and not any(folder.glob("*.safetensors"))


def open_published(folder: Path, quantization: str | None) -> PublishedWeights:
    """Check a folder of published weights; raises CheckpointError that lists all problems.

    `quantization` is what the caller asks for, None for whatever the folder has; ConfigError if
    they differ.
    """
    reader = FolderReader(folder)
    chat_config = reader.json(CHAT_CONFIG_NAME)
    index = reader.json(next(name for name in INDEX_NAMES if reader.has(name)))
    model = reader.model(_huggingface_config(chat_config))
    # Such folders have no generation_config.json: its fields are in MLC's configuration.
    chat = reader.chat_files(chat_config, GENERATION_FIELDS)
    name = str(chat_config.get("quantization"))
    if chat_config and name not in FORMATS:
        reader.problems.append(
            f"{CHAT_CONFIG_NAME}: quantization {name!r} is not supported: use weights in one of "
            f"{', '.join(FORMATS)}"
        )
    elif quantization not in (None, name):
        raise ConfigError(
            f"{folder} holds {name} weights, and --quant asks for {quantization}: leave --quant "
            "out, or build from the original checkpoint."
        )
    if model and name in FORMATS:
        reader.check_vocabulary(model[0], chat)
        format = find_quantization(name)
        wanted = [tensor for spec in model[1] for tensor in output_tensors(spec, format)]
        reader.problems += _index_problems(folder, index, wanted)
    reader.raise_problems()
    assert model, "a model without problems was parsed"
    return PublishedWeights(folder, *model, chat, name, index)


def _huggingface_config(chat_config: dict[str, Any]) -> dict[str, Any]:
    model_config = chat_config.get("model_config")
    if not isinstance(model_config, dict):
        return chat_config
    fields = {RENAMED.get(str(name), str(name)): value for name, value in model_config.items()}
    window = model_config.get("sliding_window_size")
    if isinstance(window, int) and window > 0:
        fields["sliding_window"] = window
    defaults = {"vocab_size": chat_config.get("vocab_size")}
    return {**defaults, **fields, "model_type": chat_config.get("model_type")}


def _index_problems(folder: Path, index: Any, wanted: Sequence[OutputTensor]) -> list[str]:
    try:
        shards = [
            (str(shard["dataPath"]), int(shard["nbytes"]), shard.get("md5sum"), shard["records"])
            for shard in index["records"]
        ]
        records = {
            record["name"]: (tuple(record["shape"]), record["dtype"], record["format"])
            for *_, entries in shards
            for record in entries
        }
        misplaced = [
            f"tensor {record['name']} doesn't lie in {name} as its index says: {DOWNLOAD}"
            for name, size, _, entries in shards
            for record in entries
            if not _lies_in(record, size)
        ]
    except (KeyError, TypeError, ValueError) as error:
        return [f"the weights' index is damaged ({error!r}): {DOWNLOAD}"]
    problems = [
        p for name, size, md5, _ in shards if (p := _shard_problem(folder, name, size, md5))
    ]
    return [*problems, *misplaced, *_tensor_problems(records, wanted)]


def _lies_in(record: dict[str, Any], shard_bytes: int) -> bool:
    item = 2 if record["format"] == "f32-to-bf16" else ITEM_BYTES.get(record["dtype"], 0)
    size = item * math.prod(record["shape"])
    inside: bool = 0 <= record["byteOffset"] <= shard_bytes - record["nbytes"]
    return inside and (item == 0 or size == record["nbytes"])


def _shard_problem(folder: Path, name: str, size: int, md5: str | None) -> str | None:
    if Path(name).name != name:
        return f"the index names {name!r}, outside of the folder"
    path = folder / name
    if not path.is_file():
        return f"{name} is missing: {DOWNLOAD}"
    if path.stat().st_size != size:
        return f"{name} has {path.stat().st_size} bytes, expected {size}: {DOWNLOAD}"
    if md5 and hash_md5(path) != md5:
        return f"{name} has another MD5 than its index says: {DOWNLOAD}"
    return None


def _tensor_problems(
    records: dict[str, tuple[tuple[int, ...], str, str]], wanted: Sequence[OutputTensor]
) -> list[str]:
    problems = []
    for tensor in wanted:
        if tensor.name not in records:
            problems.append(f"tensor {tensor.name} is missing")
            continue
        shape, dtype, _ = records[tensor.name]
        if (shape, dtype) != (tensor.shape, tensor.dtype):
            problems.append(
                f"tensor {tensor.name} is {dtype} {list(shape)}, expected {tensor.dtype} "
                f"{list(tensor.shape)} by {CHAT_CONFIG_NAME}"
            )
    return problems[:20]
