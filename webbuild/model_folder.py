"""A model's folder, whatever its weights' format: configuration, tokenizer, chat template."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, LockedFile, difference, read_lock
from mlc_edge.errors import BundleError, CheckpointError
from mlc_edge.files import leads_out
from mlc_edge.text_files import generation_problems
from webbuild.architectures import spec_module
from webbuild.models.llama_spec import LlamaConfig
from webbuild.models.spec import ParameterSpec

TOKEN_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")
DOWNLOAD = "download the whole checkpoint again"
# The largest tokenizers take 40 MB.
MAX_JSON_BYTES = 256_000_000


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


class FolderReader:
    """Finds and reads a folder's files and collects what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError if there is no such folder."""
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder} is not a folder: give the folder of a Hugging Face checkpoint, "
                "as `huggingface-cli download` makes it."
            )
        self.folder = folder
        self.problems: list[str] = []
        self._found: dict[str, Path | None] = {}
        self._locked: dict[str, LockedFile] | None = None

    def hold_to_lock(self) -> None:
        """From now on, find what the folder's lock names, with the sizes and hashes that it names."""
        try:
            lock = read_lock(self.folder)
        except BundleError as error:
            self.problems.append(str(error).rstrip("."))
            return
        self._locked = {file.path: file for file in lock.files}

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return (self.folder / name).is_file()

    def find(self, name: str) -> Path | None:
        """The file `name` if it is there and may be trusted to be the folder's, else None and a problem."""
        if name not in self._found:
            problem = self._problem_with(name)
            if problem:
                self.problems.append(problem)
            self._found[name] = None if problem else self.folder / name
        return self._found[name]

    def _problem_with(self, name: str) -> str | None:
        path = self.folder / name
        if not path.is_file():
            return f"{name} is missing: {DOWNLOAD}"
        if leads_out(self.folder, path):
            return f"{name} is a link out of the folder: put the file itself there"
        if self._locked is None:
            return None
        if name not in self._locked:
            return f"{LOCK_NAME} doesn't name {name}: {DOWNLOAD}"
        problem = difference(self.folder, self._locked[name])
        return problem and f"{problem}: {DOWNLOAD}"

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file, or an empty one and a problem."""
        problems = len(self.problems)
        content = self._object(name)
        if not content and len(self.problems) == problems:
            self.problems.append(f"{name} is empty: {DOWNLOAD}")
        return content

    def optional_json(self, name: str) -> dict[str, Any]:
        """Like `json`, but a missing file, or an empty object, is no problem."""
        return self._object(name) if self.has(name) else {}

    def _object(self, name: str) -> dict[str, Any]:
        path = self.find(name)
        if path is None:
            return {}
        if path.stat().st_size > MAX_JSON_BYTES:
            self.problems.append(f"{name} has more than {MAX_JSON_BYTES:,} bytes: {DOWNLOAD}")
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{name} is not JSON ({error}): {DOWNLOAD}")
            return {}
        if not isinstance(content, dict):
            self.problems.append(f"{name} holds no JSON object: {DOWNLOAD}")
            return {}
        return content

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
        self.problems += generation_problems(generation)
        return ChatFiles(tokenizer, {**tokenizer_config, "chat_template": template}, generation)

    def _template(self, tokenizer_config: dict[str, Any]) -> str | None:
        if self.has("chat_template.jinja"):
            path = self.find("chat_template.jinja")
            try:
                return path.read_text(encoding="utf-8") if path else ""
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
