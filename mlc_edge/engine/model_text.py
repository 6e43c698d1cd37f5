"""What a bundle says about text: tokenizer, template, stop tokens, sampling defaults."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import CHAT_CONFIG, ModelInfo, read_lock
from mlc_edge.engine.conversation import Conversation
from mlc_edge.engine.protocol import ModelFacts, SamplingSettings
from mlc_edge.engine.vocabulary import Vocabulary
from mlc_edge.errors import BundleError

GENERATION = "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class ModelText:
    """`active_vocab_size` tokens may be drawn; a model's table may have more rows."""

    model: ModelInfo
    facts: ModelFacts
    conversation: Conversation
    vocabulary: Vocabulary
    stop_tokens: frozenset[int]
    active_vocab_size: int


def read_model_text(bundle: Path) -> ModelText:
    """Read a bundle's files about text; raises BundleError for one that is missing or damaged."""
    model = read_lock(bundle).model
    chat = _read_json(bundle / CHAT_CONFIG)
    generation = _read_json(bundle / GENERATION) if (bundle / GENERATION).exists() else {}
    config = _read_json(bundle / TOKENIZER_CONFIG)
    if (bundle / TEMPLATE).exists():
        config["chat_template"] = (bundle / TEMPLATE).read_text(encoding="utf-8")
    tokenizer = _read_json(bundle / TOKENIZER)
    facts = ModelFacts(model.id, chat["vocab_size"], _defaults(chat, generation))
    return ModelText(
        model=model,
        facts=facts,
        conversation=Conversation(json.dumps(tokenizer), config),
        vocabulary=Vocabulary(tokenizer),
        stop_tokens=_stop_tokens(chat, generation),
        active_vocab_size=chat.get("active_vocab_size") or chat["vocab_size"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} can't be read: {error}. Build the bundle again with `mlc-edge build`."
        ) from error
    return content


def _defaults(chat: dict[str, Any], generation: dict[str, Any]) -> SamplingSettings:
    def setting(name: str, default: float) -> float:
        value = chat.get(name)
        return default if value is None else value

    # Its author wants this model's likeliest answer, whatever temperature is noted beside.
    greedy = generation.get("do_sample") is False
    return SamplingSettings(
        temperature=0 if greedy else setting("temperature", 1),
        top_p=setting("top_p", 1),
        presence_penalty=setting("presence_penalty", 0),
        frequency_penalty=setting("frequency_penalty", 0),
        repetition_penalty=setting("repetition_penalty", 1),
    )


def _stop_tokens(chat: dict[str, Any], generation: dict[str, Any]) -> frozenset[int]:
    named = (
        (chat.get("conv_template") or {}).get("stop_token_ids"),
        chat.get("eos_token_id"),
        generation.get("eos_token_id"),
    )
    lists = (ids if isinstance(ids, list) else [ids] for ids in named if ids is not None)
    return frozenset(id for ids in lists for id in ids)
