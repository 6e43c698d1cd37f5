"""A bundle's files about text to what an engine takes from them, said by hand."""

from typing import Any

CHAT = {"version": "0.1.0", "vocab_size": 100}
NEUTRAL = {
    "temperature": 1,
    "topP": 1,
    "topK": None,
    "minP": 0,
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
# What MLC's writer puts into every file.
UNSET = {
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
CHAT_SAMPLING = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05}
ALL_TAKEN = {
    **NEUTRAL,
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
    sampling: dict[str, Any] | None = None,
    stop_tokens: tuple[int, ...] = (),
    active: int = 100,
) -> dict[str, Any]:
    """`generation` is None where the bundle has no such file; what it must give comes by name.

    `sampling`: fields of requests that the files name.
    """
    return {
        "chat": {**CHAT, **chat},
        "generation": generation,
        "template_file": template_file,
        "defaults": defaults,
        "sampling": sampling or {},
        "chat_sampling": {} if set(CHAT_SAMPLING) & set(sampling or {}) else CHAT_SAMPLING,
        "stop_tokens": sorted(stop_tokens),
        "active_vocab_size": active,
    }


def _refused(file: str, field: str, *values: Any) -> list[dict[str, Any]]:
    return [{"file": file, "field": field, "value": value} for value in values]


# Values that no engine takes: the error names file and field.
REFUSED = [
    case
    for file in ("mlc-chat-config.json", "generation_config.json")
    for case in (
        *_refused(file, "temperature", "x", -0.5, True, []),
        *_refused(file, "top_p", -3, 0, 1.5),
        *_refused(file, "top_k", 1.5, "2"),
        *_refused(file, "min_p", -0.1, 1.1),
        *_refused(file, "presence_penalty", "1"),
        *_refused(file, "frequency_penalty", {}),
        *_refused(file, "repetition_penalty", 0),
        *_refused(file, "eos_token_id", -1, "2", [1, "2"], 1 << 31),
    )
] + [
    *_refused("mlc-chat-config.json", "vocab_size", 0, -1, 10**12, "100", None),
    *_refused("mlc-chat-config.json", "active_vocab_size", 0, 101, "1"),
    *_refused("mlc-chat-config.json", "conv_template", [], "chatml"),
    *_refused("mlc-chat-config.json", "conv_template", {"stop_token_ids": ["2"]}),
    *_refused("mlc-chat-config.json", "model_config", [], 3, {"vocab_size": 7}),
    *_refused("generation_config.json", "do_sample", 0, "yes"),
    *_refused("tokenizer_config.json", "chat_template", 3, {"a": 1}, ["x"], "{% for"),
    *_refused("tokenizer.json", "model", None, []),
]


def make() -> dict[str, Any]:
    stops = {"stop_token_ids": [7, 8], "name": "chatml"}
    return {
        "cases": [
            _case({}),
            _case({"active_vocab_size": 90}, {}, active=90),
            _case(ALL, {"do_sample": True}, defaults=ALL_TAKEN, sampling=ALL),
            # The author wants the likeliest answer.
            _case(
                ALL,
                {"do_sample": False},
                defaults={**ALL_TAKEN, "temperature": 0},
                sampling={**ALL, "temperature": 0},
            ),
            _case(
                {},
                {"do_sample": False, "temperature": 0.6},
                defaults={**NEUTRAL, "temperature": 0},
                sampling={"temperature": 0},
            ),
            _case(
                {"temperature": 0},
                defaults={**NEUTRAL, "temperature": 0},
                sampling={"temperature": 0},
            ),
            _case(UNSET, {"do_sample": True, "temperature": None}),
            # Who writes 1 here means it.
            _case(UNSET, {"temperature": 1, "top_p": 1.0}, sampling={"temperature": 1, "top_p": 1}),
            _case(
                UNSET,
                {"top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05},
                defaults={**NEUTRAL, "topK": 20, "minP": 0.1, "repetitionPenalty": 1.05},
                sampling={"top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05},
            ),
            # A chat draws from fewer tokens where the author named other fields alone.
            _case(
                {**UNSET, "repetition_penalty": 1.1},
                {"top_k": 0},
                defaults={**NEUTRAL, "repetitionPenalty": 1.1},
                sampling={"top_k": 0, "repetition_penalty": 1.1},
            ),
            _case({"eos_token_id": 0}, stop_tokens=(0,)),
            _case({"eos_token_id": [2, 3]}, {"eos_token_id": 4}, stop_tokens=(2, 3, 4)),
            _case({"conv_template": stops}, {"eos_token_id": [9, 7]}, stop_tokens=(7, 8, 9)),
            _case({"conv_template": {"name": "chatml"}, "eos_token_id": None}),
            _case({}, template_file=True),
        ],
        "refused": REFUSED,
    }
