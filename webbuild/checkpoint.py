"""Checkpoint folders: Hugging Face's files, checked as a whole before anything is built of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.lock_fields import is_file_name
from mlc_edge.weight_index import shortened
from webbuild.model_folder import DOWNLOAD, ChatFiles, FolderReader
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.spec import ParameterSpec
from webbuild.quantization.groups import SourceTensor
from webbuild.safetensors_file import ITEM_BYTES, StoredTensor, read_header

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pth", "*.pt")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all there and fit each other; weights are read on demand.

    `path` is its folder, or the file that holds all of it.
    """

    path: Path
    model: LlamaConfig
    table: Sequence[ParameterSpec]
    tensors: Mapping[str, SourceTensor]
    chat: ChatFiles


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check a checkpoint's files; raises CheckpointError that lists all that is wrong with them."""
    reader = FolderReader(folder)
    config = reader.json("config.json")
    model = reader.model(config)
    chat = reader.chat_files(config)
    tensors = _read_tensors(reader)
    if model:
        reader.check_vocabulary(model[0], chat)
        if tensors:
            reader.problems += _tensor_problems(model[1], tensors)
    reader.raise_problems()
    assert model, "a model without problems was parsed"
    return Checkpoint(folder, *model, tensors, chat)


def _read_tensors(reader: FolderReader) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for name in _weight_files(reader):
        path = reader.find(name)
        if path is None:
            continue
        found, problems = read_header(path)
        tensors |= found
        reader.problems += problems
    return tensors


def _weight_files(reader: FolderReader) -> list[str]:
    if reader.has(INDEX_NAME):
        weight_map = reader.json(INDEX_NAME).get("weight_map")
        if not isinstance(weight_map, dict):
            reader.problems.append(f"{INDEX_NAME} has no weight_map: {DOWNLOAD}")
            return []
        names = sorted({str(name) for name in weight_map.values()})
        outside = [name for name in names if not is_file_name(name)]
        if outside:
            reader.problems.append(f"{INDEX_NAME} names files outside of the folder: {outside}")
        return [name for name in names if name not in outside]
    if reader.has(SINGLE_NAME):
        return [SINGLE_NAME]
    pickles = sorted(path.name for pattern in PICKLES for path in reader.folder.glob(pattern))
    if pickles:
        reader.problems.append(
            f"weights are in {pickles[0]}, a pickle, which could run code when it is read: load "
            "it with transformers and save_pretrained(folder, safe_serialization=True)"
        )
    else:
        reader.problems.append(f"{SINGLE_NAME} and {INDEX_NAME} are missing: {DOWNLOAD}")
    return []


def _tensor_problems(table: Sequence[ParameterSpec], tensors: dict[str, StoredTensor]) -> list[str]:
    used = (tensors[name] for spec in table for name in spec.sources if name in tensors)
    problems = [
        f"tensor {tensor.name} has type {tensor.dtype}, expected {', '.join(ITEM_BYTES)}"
        for tensor in used
        if tensor.dtype not in ITEM_BYTES
    ]
    return [*shortened(problems), *table_problems(table, tensors, by="config.json")]


def table_problems(
    table: Sequence[ParameterSpec],
    tensors: Mapping[str, SourceTensor],
    *,
    by: str,
    shown: Callable[[str], str] = str,
) -> list[str]:
    """Tensors that are missing, or have other shapes than `table`, which was made `by` some file.

    `shown` gives the name that the file has for a tensor.
    """
    problems = []
    for spec in table:
        found = [tensors[name] for name in spec.sources if name in tensors]
        problems += [
            f"tensor {shown(name)} is missing" for name in spec.sources if name not in tensors
        ]
        if len(found) == len(spec.sources) and not _fits(spec, found):
            got = " and ".join(f"{shown(tensor.name)} {list(tensor.shape)}" for tensor in found)
            joined = " together" if len(found) > 1 else ""
            problems.append(f"wrong shape: {got}, expected{joined} {list(spec.shape)} by {by}")
    return shortened(problems)


def _fits(spec: ParameterSpec, found: Sequence[SourceTensor]) -> bool:
    rest = spec.shape[1:]
    alike = all(len(t.shape) == len(spec.shape) and t.shape[1:] == rest for t in found)
    return alike and sum(tensor.shape[0] for tensor in found) == spec.shape[0]
