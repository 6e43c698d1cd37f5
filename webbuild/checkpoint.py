"""Checkpoint folders: Hugging Face's files, checked as a whole before anything is built of them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.errors import CheckpointError
from webbuild.architectures import spec_module
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.spec import ParameterSpec
from webbuild.safetensors_file import ITEM_BYTES, StoredTensor, read_header

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TOKEN_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")
PICKLES = ("*.bin", "*.pth", "*.pt")
DOWNLOAD = "download the whole checkpoint again"


@dataclass(frozen=True)
class ChatFiles:
    """What turns messages into tokens and back; `tokenizer_config` holds the chat template."""

    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    generation_config: dict[str, Any]

    @property
    def token_count(self) -> int:
        """One more than the highest token id."""
        vocabulary = self.tokenizer["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        added = [entry["id"] for entry in self.tokenizer.get("added_tokens") or []]
        return max([-1, *ids, *added]) + 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all there and fit each other; weights are read on demand."""

    folder: Path
    model: LlamaConfig
    table: Sequence[ParameterSpec]
    tensors: dict[str, StoredTensor]
    chat: ChatFiles


class FolderReader:
    """Reads a folder's JSON files and collects what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError if there is no such folder."""
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder} is not a folder: give the folder of a Hugging Face checkpoint, "
                "as `huggingface-cli download` makes it."
            )
        self.folder = folder
        self.problems: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return (self.folder / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file, or an empty one and a problem."""
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.problems.append(f"{name} is missing: {DOWNLOAD}")
            return {}
        except (OSError, ValueError) as error:
            self.problems.append(f"{name} is not JSON ({error}): {DOWNLOAD}")
            return {}
        if not isinstance(content, dict):
            self.problems.append(f"{name} holds no JSON object: {DOWNLOAD}")
            return {}
        return content

    def optional_json(self, name: str) -> dict[str, Any]:
        """Like `json`, but a missing file is an empty object and no problem."""
        return self.json(name) if self.has(name) else {}

    def chat_files(
        self, config: dict[str, Any], inherited: Sequence[str] = TOKEN_FIELDS
    ) -> ChatFiles:
        """Tokenizer, template, generation defaults; what they lack of `inherited` is `config`'s."""
        tokenizer = self.json("tokenizer.json")
        tokenizer_config = self.json("tokenizer_config.json")
        template = self._template(tokenizer_config)
        if template is None and tokenizer_config:
            self.problems.append(
                "no chat template: neither tokenizer_config.json nor chat_template.jinja has one. "
                "Use a chat or instruct model, or put a chat_template.jinja into the folder"
            )
        generation = self.optional_json("generation_config.json")
        for field in inherited:
            if generation.get(field) is None and config.get(field) is not None:
                generation[field] = config[field]
        return ChatFiles(tokenizer, {**tokenizer_config, "chat_template": template}, generation)

    def _template(self, tokenizer_config: dict[str, Any]) -> str | None:
        if self.has("chat_template.jinja"):
            try:
                return (self.folder / "chat_template.jinja").read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                self.problems.append(f"chat_template.jinja can't be read ({error}): {DOWNLOAD}")
                return ""
        template = tokenizer_config.get("chat_template")
        if isinstance(template, list):
            entries = [entry for entry in template if isinstance(entry, dict)]
            named = {str(entry.get("name")): entry.get("template") for entry in entries}
            template = named.get("default")
        return template if isinstance(template, str) else None

    def model(self, config: dict[str, Any]) -> tuple[LlamaConfig, list[ParameterSpec]] | None:
        """Configuration and parameter table of `config`, or None and problems."""
        if not config:
            return None
        try:
            module = spec_module(config)
            model = module.LlamaConfig.from_huggingface(config)
        except CheckpointError as error:
            self.problems.append(str(error).rstrip("."))
            return None
        return model, module.parameter_table(model)

    def check_vocabulary(self, model: LlamaConfig, chat: ChatFiles) -> None:
        """Note a damaged tokenizer, or one with more tokens than the model has embeddings."""
        if not chat.tokenizer:
            return
        try:
            count = chat.token_count
        except (KeyError, TypeError, AttributeError):
            self.problems.append(f"tokenizer.json has no vocabulary of token ids: {DOWNLOAD}")
            return
        if count > model.vocab_size:
            self.problems.append(
                f"tokenizer.json has token ids up to {count - 1}, config.json a "
                f"vocab_size of {model.vocab_size}: they belong to different models"
            )

    def raise_problems(self) -> None:
        """Raise a CheckpointError that lists the problems, if there are any."""
        if len(self.problems) == 1:
            raise CheckpointError(f"checkpoint {self.folder}: {self.problems[0]}.")
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            raise CheckpointError(
                f"checkpoint {self.folder} has {len(self.problems)} problems:{listed}"
            )


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
        if not reader.has(name):
            reader.problems.append(f"{name} is missing: {DOWNLOAD}")
            continue
        found, problems = read_header(reader.folder / name)
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
        outside = [name for name in names if Path(name).name != name]
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
    problems = []
    for spec in table:
        found = [tensors[name] for name in spec.sources if name in tensors]
        problems += [f"tensor {name} is missing" for name in spec.sources if name not in tensors]
        problems += [
            f"tensor {tensor.name} has type {tensor.dtype}, expected {', '.join(ITEM_BYTES)}"
            for tensor in found
            if tensor.dtype not in ITEM_BYTES
        ]
        if len(found) == len(spec.sources) and not _fits(spec, found):
            got = " and ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in found)
            joined = " together" if len(found) > 1 else ""
            problems.append(
                f"wrong shape: {got}, expected{joined} {list(spec.shape)} by config.json"
            )
    shown = 20
    if len(problems) > shown:
        return [*problems[:shown], f"and {len(problems) - shown} more tensors"]
    return problems


def _fits(spec: ParameterSpec, found: Sequence[StoredTensor]) -> bool:
    rest = spec.shape[1:]
    alike = all(len(t.shape) == len(spec.shape) and t.shape[1:] == rest for t in found)
    return alike and sum(tensor.shape[0] for tensor in found) == spec.shape[0]


def parameter_count(table: Sequence[ParameterSpec]) -> int:
    """Number of weights, before quantisation."""
    return sum(math.prod(spec.shape) for spec in table)
