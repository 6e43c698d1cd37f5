"""How tokens are drawn where nobody says: as a model's files name it, else as OpenAI's API or chats do."""

from collections.abc import Mapping
from typing import Any

from mlc_edge.engine.protocol import SamplingSettings

# Fields of requests, with OpenAI's defaults: what is drawn is the model's own distribution.
NEUTRAL: dict[str, float] = {
    "temperature": 1,
    "top_p": 1,
    "top_k": 0,
    "min_p": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
}
# For conversations: small models wander off where unlikely tokens are drawn as often as they are likely.
CHAT: dict[str, float] = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05}


def named_sampling(chat: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, float]:
    """Fields of requests with what a bundle's files name for them.

    `chat` and `generation`: contents of mlc-chat-config.json and generation_config.json. MLC's file
    always has numbers: the neutral ones name nothing.
    """
    named: dict[str, float] = {}
    for field, neutral in NEUTRAL.items():
        if generation.get(field) is not None:
            named[field] = generation[field]
        elif chat.get(field) not in (None, neutral):
            named[field] = chat[field]
    # Its author wants this model's likeliest answer, whatever temperature is noted beside.
    if generation.get("do_sample") is False:
        named["temperature"] = 0
    return named


def api_defaults(named: Mapping[str, float]) -> SamplingSettings:
    """For requests that leave fields open."""
    settings: dict[str, Any] = {**NEUTRAL, **named}
    top_k = int(settings.pop("top_k"))
    return SamplingSettings(top_k=top_k if top_k > 0 else None, **settings)


def chat_sampling(named: Mapping[str, float]) -> dict[str, float]:
    """Fields that a chat's requests have where its person sets none; none if the model's files do."""
    return {} if named.keys() & CHAT.keys() else dict(CHAT)
