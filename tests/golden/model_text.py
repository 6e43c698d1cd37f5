"""A bundle's files about text to what an engine takes from them, said by hand."""

from typing import Any

CHAT = {"version": "0.1.0", "vocab_size": 100}
NEUTRAL = {
    "temperature": 1,
    "topP": 1,
    "presencePenalty": 0,
    "frequencyPenalty": 0,
    "repetitionPenalty": 1,
}
ALL = {
    "temperature": 0.6,
    "top_p": 0.95,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.3,
}
ALL_TAKEN = {
    "temperature": 0.6,
    "topP": 0.95,
    "presencePenalty": 0.1,
    "frequencyPenalty": 0.2,
    "repetitionPenalty": 1.3,
}


def _case(
    chat: dict[str, Any],
    generation: dict[str, Any] | None = None,
    *,
    template_file: bool = False,
    defaults: dict[str, Any] = NEUTRAL,
    stop_tokens: tuple[int, ...] = (),
    active: int = 100,
) -> dict[str, Any]:
    """`generation` is None where the bundle has no such file; what it must give comes by name."""
    return {
        "chat": {**CHAT, **chat},
        "generation": generation,
        "template_file": template_file,
        "defaults": defaults,
        "stop_tokens": sorted(stop_tokens),
        "active_vocab_size": active,
    }


def make() -> dict[str, Any]:
    stops = {"stop_token_ids": [7, 8], "name": "chatml"}
    return {
        "cases": [
            _case({}),
            _case({"active_vocab_size": 90}, {}, active=90),
            _case(ALL, {"do_sample": True}, defaults=ALL_TAKEN),
            # The author wants the likeliest answer.
            _case(ALL, {"do_sample": False}, defaults={**ALL_TAKEN, "temperature": 0}),
            _case({}, {"do_sample": False}, defaults={**NEUTRAL, "temperature": 0}),
            _case({"temperature": 0}, defaults={**NEUTRAL, "temperature": 0}),
            _case({"eos_token_id": 0}, stop_tokens=(0,)),
            _case({"eos_token_id": [2, 3]}, {"eos_token_id": 4}, stop_tokens=(2, 3, 4)),
            _case({"conv_template": stops}, {"eos_token_id": [9, 7]}, stop_tokens=(7, 8, 9)),
            _case({"conv_template": {"name": "chatml"}, "eos_token_id": None}),
            _case({}, template_file=True),
        ],
    }
