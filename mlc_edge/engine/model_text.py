"""What a bundle says about text: tokenizer, template, stop tokens, sampling defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from mlc_edge.bundle import BundleLock, ModelInfo, damaged, read_lock
from mlc_edge.chat_template import ChatTemplate
from mlc_edge.engine.conversation import Conversation
from mlc_edge.engine.protocol import ChatMessage, ModelFacts
from mlc_edge.engine.sampling_defaults import api_defaults, named_sampling
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.errors import BundleError, EngineError
from mlc_edge.text_files import CHAT_CONFIG, TOKENIZER, TOKENIZER_CONFIG, TextFiles, read_text_files

# What every model answers; some templates want the system's turn first.
QUESTION = ChatMessage(role="user", content="Hi")
SYSTEM = ChatMessage(role="system", content="Be brief.")


@dataclass(frozen=True)
class ModelText:
    """`active_vocab_size` tokens may be drawn; a model's table may have more rows.

    `sampling` are the fields of requests that its files name, and `facts` has defaults for all.
    """

    model: ModelInfo
    facts: ModelFacts
    sampling: Mapping[str, float]
    conversation: Conversation
    vocabulary: Vocabulary
    stop_tokens: frozenset[int]
    active_vocab_size: int


def read_model_text(bundle: Path) -> ModelText:
    """Read a bundle's files about text; raises BundleError that lists all that is wrong with them."""
    lock = read_lock(bundle)
    text, problems = _read(bundle, lock)
    if text is None:
        raise damaged(bundle, (f"{path}: {problem}" for path, problem in problems))
    return text


def text_problems(bundle: Path, lock: BundleLock) -> list[tuple[str, str]]:
    """What is wrong with the files about text: (path, problem); a question is put into the template."""
    text, problems = _read(bundle, lock)
    if text is not None and (problem := _prompt_problem(text.conversation)):
        problems.append((TOKENIZER_CONFIG, problem))
    return problems


def _read(bundle: Path, lock: BundleLock) -> tuple[ModelText | None, list[tuple[str, str]]]:
    files = read_text_files(bundle, lock)
    bad = {path for path, _ in files.problems}
    vocabulary = None if TOKENIZER in bad else _vocabulary(files)
    conversation = _conversation(files, bad)
    if files.problems or vocabulary is None or conversation is None:
        return None, files.problems
    chat, generation = files.chat, files.generation
    sampling = named_sampling(chat, generation)
    text = ModelText(
        model=lock.model,
        facts=ModelFacts((lock.model.id,), chat["vocab_size"], api_defaults(sampling)),
        sampling=sampling,
        conversation=conversation,
        vocabulary=vocabulary,
        stop_tokens=_stop_tokens(chat, generation),
        active_vocab_size=chat.get("active_vocab_size") or chat["vocab_size"],
    )
    return text, []


def _vocabulary(files: TextFiles) -> Vocabulary | None:
    try:
        vocabulary = Vocabulary(files.tokenizer)
    except (BundleError, KeyError, TypeError, ValueError, AttributeError) as error:
        files.problems.append((TOKENIZER, f"its vocabulary can't be read ({error!r:.120})"))
        return None
    size = files.chat.get("vocab_size")
    if isinstance(size, int) and vocabulary.size > size:
        problem = f"it has token ids up to {vocabulary.size - 1}, and vocab_size is {size}"
        files.problems.append((TOKENIZER, f"{problem} in {CHAT_CONFIG}"))
    return vocabulary


def _conversation(files: TextFiles, bad: set[str]) -> Conversation | None:
    is_template_good = TOKENIZER_CONFIG not in bad and _is_template_good(files)
    if TOKENIZER in bad:
        return None
    config = files.tokenizer_config if is_template_good else {}
    try:
        conversation = Conversation(files.tokenizer, config)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    # The tokenizers library has no class of its own for what it can't read, and its panics are no Exception.
    except BaseException as error:
        files.problems.append((TOKENIZER, f"it is no tokenizer ({error})"))
        return None
    return conversation if is_template_good else None


def _is_template_good(files: TextFiles) -> bool:
    try:
        ChatTemplate(files.tokenizer_config)
    except TemplateError as error:
        files.problems.append((TOKENIZER_CONFIG, f"its chat template is no template ({error})"))
        return False
    return True


def _prompt_problem(conversation: Conversation) -> str | None:
    try:
        try:
            prompt = conversation.tokens([QUESTION])
        except EngineError:
            prompt = conversation.tokens([SYSTEM, QUESTION])
    except (KeyboardInterrupt, SystemExit):
        raise
    # A template's code can raise what it likes, and the tokenizers library panic.
    except BaseException as error:
        return f"its chat template fails for a plain question ({error!r:.200})"
    return None if prompt else "its chat template makes an empty prompt of a plain question"


def _stop_tokens(chat: dict[str, Any], generation: dict[str, Any]) -> frozenset[int]:
    named = (
        (chat.get("conv_template") or {}).get("stop_token_ids"),
        chat.get("eos_token_id"),
        generation.get("eos_token_id"),
    )
    lists = (ids if isinstance(ids, list) else [ids] for ids in named if ids is not None)
    return frozenset(id for ids in lists for id in ids)
