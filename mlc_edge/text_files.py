"""A bundle's JSON files about text: tokenizer, template, stop tokens, sampling defaults, all checked."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlc_edge.bundle import BundleLock
from mlc_edge.files import FileError, read_json, read_plain

CHAT_CONFIG, GENERATION = "mlc-chat-config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"

Accepts = Callable[[Any], bool]
Rule = tuple[str, Accepts, str]


@dataclass
class TextFiles:
    """Contents of the files, and what is wrong with them: (path, problem).

    Files that the lock doesn't name are not read: nobody has vouched for them.
    """

    chat: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def read_text_files(folder: Path, lock: BundleLock) -> TextFiles:
    """Read and check the files; without problems, every field that is there has its type."""
    files = TextFiles()
    named = {file.path for file in lock.files}
    files.chat = _object(files, folder, named, CHAT_CONFIG)
    files.tokenizer = _object(files, folder, named, TOKENIZER)
    files.tokenizer_config = _object(files, folder, named, TOKENIZER_CONFIG)
    if GENERATION in named:
        files.generation = _object(files, folder, named, GENERATION)
    if TEMPLATE in named:
        try:
            files.tokenizer_config["chat_template"] = read_plain(folder, TEMPLATE).decode()
        except (FileError, UnicodeDecodeError) as error:
            files.problems.append((TEMPLATE, f"it can't be read ({error})"))
    files.problems += _field_problems(files)
    return files


def _object(files: TextFiles, folder: Path, named: set[str], path: str) -> dict[str, Any]:
    if path not in named:
        files.problems.append((path, "the lock doesn't name it, and every bundle needs one"))
        return {}
    try:
        content = read_json(folder, path)
    except FileError as error:
        files.problems.append((path, str(error)))
        return {}
    if not isinstance(content, dict):
        files.problems.append((path, f"it holds {_shown(content)}, expected a JSON object"))
        return {}
    return content


def _field_problems(files: TextFiles) -> Iterator[tuple[str, str]]:
    read = {path for path, _ in files.problems}
    if CHAT_CONFIG not in read:
        yield from _chat_problems(files.chat)
    for problem in generation_problems(files.generation):
        yield GENERATION, problem
    template = ("chat_template", _is_template, "a text, or a list of named ones")
    yield from _problem(TOKENIZER_CONFIG, files.tokenizer_config, *template)
    vocabulary = files.tokenizer.get("model")
    if TOKENIZER not in read and not isinstance(vocabulary, dict):
        yield TOKENIZER, f"model is {_shown(vocabulary)}, expected an object with a vocabulary"


def generation_problems(generation: dict[str, Any]) -> Iterator[str]:
    """Token ids and sampling defaults that engines can't use."""
    for rule in (*SAMPLING_RULES, EOS_RULE, *OTHER_TOKEN_RULES, DO_SAMPLE_RULE):
        for _, problem in _problem(GENERATION, generation, *rule):
            yield problem


def _chat_problems(chat: dict[str, Any]) -> Iterator[tuple[str, str]]:
    size: float = chat.get("vocab_size", 0)
    if not _is_id(size) or size == 0:
        yield (
            CHAT_CONFIG,
            f"vocab_size is {_shown(chat.get('vocab_size'))}, expected a number of tokens",
        )
        size = math.inf
    for name, accepts, expected in (
        ("active_vocab_size", lambda n: _is_id(n) and 0 < n <= size, "at most vocab_size"),
        *SAMPLING_RULES,
        EOS_RULE,
        ("conv_template", lambda value: isinstance(value, dict), "an object"),
        ("model_config", lambda value: isinstance(value, dict), "an object"),
    ):
        yield from _problem(CHAT_CONFIG, chat, name, accepts, expected)
    yield from _nested_problems(chat, size)


def _nested_problems(chat: dict[str, Any], size: float) -> Iterator[tuple[str, str]]:
    conversation, model = chat.get("conv_template"), chat.get("model_config")
    if isinstance(conversation, dict):
        ids = ("stop_token_ids", _is_ids, "a list of token ids")
        yield from _problem(CHAT_CONFIG, conversation, *ids)
    if isinstance(model, dict) and model.get("vocab_size") not in (None, size):
        yield (
            CHAT_CONFIG,
            f"model_config.vocab_size is {_shown(model['vocab_size'])}, vocab_size {size}",
        )


def _problem(
    path: str, source: dict[str, Any], name: str, accepts: Accepts, expected: str
) -> Iterator[tuple[str, str]]:
    value = source.get(name)
    if value is not None and not accepts(value):
        yield path, f"{name} is {_shown(value)}, expected {expected}"


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_ids(value: Any) -> bool:
    return all(map(_is_id, value)) if isinstance(value, list) else _is_id(value)


def _is_template(value: Any) -> bool:
    if not isinstance(value, list):
        return isinstance(value, str)
    return all(
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("template"), str)
        for entry in value
    )


def _is_integers(value: Any) -> bool:
    """-1 is what some checkpoints have for no token."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(id, int) and not isinstance(id, bool) for id in values)


SAMPLING_RULES: tuple[Rule, ...] = (
    ("temperature", lambda n: _is_number(n) and n >= 0, "a number from 0"),
    ("top_p", lambda n: _is_number(n) and 0 < n <= 1, "a number above 0, at most 1"),
    ("top_k", lambda n: _is_number(n) and n % 1 == 0, "a whole number"),
    ("min_p", lambda n: _is_number(n) and 0 <= n <= 1, "a number from 0 to 1"),
    ("presence_penalty", _is_number, "a number"),
    ("frequency_penalty", _is_number, "a number"),
    ("repetition_penalty", lambda n: _is_number(n) and n > 0, "a number above 0"),
)
EOS_RULE: Rule = ("eos_token_id", _is_ids, "a token id, or a list of them")
OTHER_TOKEN_RULES: tuple[Rule, ...] = tuple(
    (name, _is_integers, "a token id, or a list of them")
    for name in ("bos_token_id", "pad_token_id")
)
DO_SAMPLE_RULE: Rule = ("do_sample", _is_bool, "true or false")


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value!r:.60}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
