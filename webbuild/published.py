"""Weights that are in MLC's format already, or in a bundle: checked, then taken over as they are."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mlc_edge.bundle import LOCK_NAME
from mlc_edge.engine.sampling_defaults import NEUTRAL
from mlc_edge.errors import ConfigError
from mlc_edge.weight_index import TENSOR_CACHE_NAME, Shard, parse_index, shortened
from webbuild.interleaved import (
    INTERLEAVED_INDEX,
    deinterleave,
    interleaved_form,
    standard_storages,
    tensor_shapes,
)
from webbuild.model_folder import DOWNLOAD, TOKEN_FIELDS, ChatFiles, FolderReader
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.formats import (
    QUANTIZATIONS,
    Quantization,
    WeightFormats,
    find_quantization,
    infer_format,
    layer_of,
)
from webbuild.tensor_cache import WeightPlan, hash_md5, plan_weights

# In the order in which they are looked for: the first is taken.
INDEX_NAMES = (TENSOR_CACHE_NAME, "ndarray-cache.json", INTERLEAVED_INDEX)
CHAT_CONFIG_NAME = "mlc-chat-config.json"
# Fields of MLC's model_config under the names that Hugging Face's config.json has for them.
RENAMED = {
    "position_embedding_base": "rope_theta",
    "context_window_size": "max_position_embeddings",
}


@dataclass(frozen=True)
class PublishedWeights:
    """A folder of weights in MLC's format, or a bundle, whose files are all there and fit each other.

    `index` is one of INDEX_NAMES; a bundle for CPUs alone has only the interleaved one. `rounding` is its
    note of how weights were rounded.
    """

    folder: Path
    model: LlamaConfig
    table: Sequence[ParameterSpec]
    chat: ChatFiles
    formats: WeightFormats
    index: str
    shards: Sequence[Shard]
    rounding: Mapping[str, str] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards that `copy_weights` writes."""
        if self.index == INTERLEAVED_INDEX:
            return self._standard_plan().total_bytes
        return sum(shard.nbytes for shard in self.shards)

    def copy_weights(self, folder: Path, advance: Callable[[int], None]) -> None:
        """Write the standard parameter set to `folder`; `advance` is told of bytes written.

        Shards are taken over byte for byte, interleaved weights go back into the standard order.
        """
        if self.index == INTERLEAVED_INDEX:
            deinterleave(self.folder, self.shards, folder, self._standard_plan(), advance)
            return
        for shard in self.shards:
            shutil.copyfile(self.folder / shard.name, folder / shard.name)
            advance(shard.nbytes)
        shutil.copyfile(self.folder / self.index, folder / TENSOR_CACHE_NAME)

    def _standard_plan(self) -> WeightPlan:
        storages = standard_storages(self.folder, self.shards)
        return plan_weights(self.table, self.formats, storages)


def holds_published_weights(folder: Path) -> bool:
    """Whether `folder` has weights in MLC's format, or a bundle's, and none of Hugging Face's."""
    indexed = any((folder / name).is_file() for name in INDEX_NAMES)
    return indexed and not any(folder.glob("*.safetensors"))


def open_published(folder: Path, quantization: str | None) -> PublishedWeights:
    """Check a folder of published weights; raises CheckpointError that lists all problems.

    Where there is an mlc-lock.json, every file that is read must be named there, and be that file.
    `quantization` is what the caller asks for, None for whatever the folder has; ConfigError if
    they differ.
    """
    reader = FolderReader(folder)
    if reader.has(LOCK_NAME):
        reader.hold_to_lock()
    chat_config = reader.json(CHAT_CONFIG_NAME)
    index = next(name for name in INDEX_NAMES if reader.has(name))
    shards = _read_shards(reader, index)
    model = reader.model(_huggingface_config(chat_config))
    # MLC's folders have no generation_config.json: its fields are in MLC's configuration.
    has_generation = reader.has("generation_config.json")
    inherited = TOKEN_FIELDS if has_generation else _generation_fields(chat_config)
    chat = reader.chat_files(chat_config, inherited)
    name = str(chat_config.get("quantization"))
    if chat_config and name not in QUANTIZATIONS:
        reader.problems.append(
            f"{CHAT_CONFIG_NAME}: quantization {name!r:.80} is not supported: use weights in one of "
            f"{', '.join(QUANTIZATIONS)}"
        )
    elif quantization and find_quantization(quantization).name != name:
        raise ConfigError(
            f"{folder} holds {name} weights, and --quant asks for {quantization}: leave --quant "
            "out, or build from the original checkpoint."
        )
    if model and name in QUANTIZATIONS:
        reader.check_vocabulary(model[0], chat)
        formats = _formats(shards, model[1], QUANTIZATIONS[name])
        if shards:
            interleaved = index == INTERLEAVED_INDEX
            reader.problems += _tensor_problems(shards, model[1], formats, interleaved=interleaved)
    reader.raise_problems()
    assert model, "a model without problems was parsed"
    rounding = _rounding_note(chat_config)
    return PublishedWeights(folder, *model, chat, formats, index, shards, rounding)


def _rounding_note(chat_config: dict[str, Any]) -> dict[str, str]:
    note = chat_config.get("rounding")
    return {str(k): str(v) for k, v in note.items()} if isinstance(note, dict) else {}


def _formats(
    shards: Sequence[Shard], table: Sequence[ParameterSpec], quantization: Quantization
) -> WeightFormats:
    """Each weight's format, from the shapes of what there is; a missing one's is the quantisation's."""
    shapes = tensor_shapes(shards)
    found = {
        spec.name: infer_format(layer_of(spec.name), shapes)
        for spec in table
        if spec.quantized and {spec.name, f"{layer_of(spec.name)}.q_weight"} & shapes.keys()
    }
    kept = {name: format for name, format in found.items() if format != quantization.linear}
    return WeightFormats(quantization, kept)


def _generation_fields(chat_config: dict[str, Any]) -> tuple[str, ...]:
    """MLC's writer puts neutral values where a model's files name nothing."""
    named = (f for f, neutral in NEUTRAL.items() if chat_config.get(f) not in (None, neutral))
    return (*TOKEN_FIELDS, *named)


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


def _read_shards(reader: FolderReader, index: str) -> list[Shard]:
    """The shards that `index` describes; none, and problems, unless all are there and whole."""
    content = reader.json(index)
    if not content:
        return []
    shards, problems = parse_index(content)
    reader.problems += [f"{index}: {problem}: {DOWNLOAD}" for problem in problems]
    if problems:
        return []
    place = PurePosixPath(index)
    found = [_is_whole(reader, str(place.with_name(shard.name)), shard) for shard in shards]
    return shards if all(found) else []


def _is_whole(reader: FolderReader, name: str, shard: Shard) -> bool:
    """Whether the file `name` is what the index says of it; else there is a problem."""
    path = reader.find(name)
    if path is None:
        return False
    size = path.stat().st_size
    if size != shard.nbytes:
        reader.problems.append(f"{name} has {size} bytes, expected {shard.nbytes}: {DOWNLOAD}")
        return False
    if shard.md5 and hash_md5(path) != shard.md5:
        reader.problems.append(f"{name} has another MD5 than its index says: {DOWNLOAD}")
        return False
    return True


def _tensor_problems(
    shards: Sequence[Shard],
    table: Sequence[ParameterSpec],
    formats: WeightFormats,
    *,
    interleaved: bool,
) -> list[str]:
    found = {tensor.name: tensor for shard in shards for tensor in shard.tensors}
    problems = []
    stored = [(spec, tensor) for spec in table for tensor in formats.output_tensors(spec)]
    for spec, wanted in stored:
        shape, dtype = wanted.shape, wanted.dtype
        if interleaved:
            shape, dtype = interleaved_form(wanted, formats.of(spec))
        tensor = found.get(wanted.name)
        if tensor is None:
            problems.append(f"tensor {wanted.name} is missing")
        elif (tensor.shape, tensor.dtype) != (shape, dtype):
            problems.append(
                f"tensor {wanted.name} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} "
                f"{list(shape)} by {CHAT_CONFIG_NAME}"
            )
    return shortened(problems)
