"""Requests to their normalised form, or to the code and parameter of the error."""

from typing import Any

MODEL: dict[str, Any] = {
    "id": "tiny",
    "vocabSize": 100,
    "defaults": {
        "temperature": 0.7,
        "topP": 0.95,
        "topK": 40,
        "minP": 0.02,
        "presencePenalty": 0,
        "frequencyPenalty": 0,
        "repetitionPenalty": 1,
    },
}
HELLO = [{"role": "user", "content": "Hello"}]
COMES_BACK: dict[str, Any] = {
    "role": "assistant",
    "content": "Hi",
    "refusal": None,
    "annotations": [],
    "audio": None,
    "function_call": None,
    "tool_calls": [],
}
HINTED = {"type": "text", "prompt_cache_breakpoint": {"mode": "explicit"}}
SAMPLING: dict[str, Any] = {
    **MODEL["defaults"],
    "logitBias": [],
    "logprobs": None,
}
PLAIN = {
    "messages": HELLO,
    "begun": "",
    "maxTokens": None,
    "choices": 1,
    "stop": [],
    "seed": None,
    "sampling": SAMPLING,
    "stream": False,
    "includeUsage": False,
    "ignoreEos": False,
    "deterministic": None,
}


def _accepted(
    request: dict[str, Any], sampling: dict[str, Any] | None = None, **changed: Any
) -> Any:
    wanted = {**PLAIN, **changed, "sampling": {**SAMPLING, **(sampling or {})}}
    return {"request": {"messages": HELLO, **request}, "accepted": wanted}


def _refused(param: str, request: dict[str, Any]) -> Any:
    return {
        "request": {"messages": HELLO, **request},
        "refused": {"code": "invalid_request", "param": param},
    }


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def make() -> dict[str, Any]:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    cases = [
        _accepted({}),
        _accepted({"model": "tiny", "user": "someone", "tools": None}),
        _accepted({"messages": [{"role": "user", "content": parts}]}),
        _accepted(
            {"messages": [{"role": "developer", "content": "Be brief."}, *HELLO]},
            messages=[{"role": "system", "content": "Be brief."}, *HELLO],
        ),
        _accepted({"max_tokens": 5}, maxTokens=5),
        _accepted({"max_completion_tokens": 6}, maxTokens=6),
        _accepted({"max_completion_tokens": 6, "max_tokens": 6}, maxTokens=6),
        _accepted({"n": 3, "seed": -1}, choices=3, seed=-1),
        _accepted({"seed": 9007199254740991}, seed=9007199254740991),
        _accepted({"stop": "\n"}, stop=["\n"]),
        _accepted({"stop": ["a", "b", "c", "d"]}, stop=["a", "b", "c", "d"]),
        _accepted({"stop": "🙂" * 1000}, stop=["🙂" * 1000]),
        _accepted({"temperature": 0, "top_p": 1}, {"temperature": 0, "topP": 1}),
        _accepted({"temperature": 2}, {"temperature": 2}),
        _accepted(
            {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1},
            {"presencePenalty": -2, "frequencyPenalty": 2, "repetitionPenalty": 1.1},
        ),
        _accepted({"logit_bias": {"7": -100, "99": 3.5}}, {"logitBias": [[7, -100], [99, 3.5]]}),
        _accepted({"top_k": 41, "min_p": 0.05}, {"topK": 41, "minP": 0.05}),
        _accepted({"top_k": None, "min_p": None}),
        *(_accepted({"top_k": off, "min_p": 0}, {"topK": None, "minP": 0}) for off in (0, -1)),
        _accepted({"top_k": 9007199254740991, "min_p": 1}, {"topK": 9007199254740991, "minP": 1}),
        _accepted({"temperature": 5e-324, "top_p": 0}, {"temperature": 5e-324, "topP": 0}),
        _accepted({"logprobs": True}, {"logprobs": 0}),
        _accepted({"logprobs": True, "top_logprobs": 20}, {"logprobs": 20}),
        _accepted(
            {"stream": True, "stream_options": {"include_usage": True}},
            stream=True,
            includeUsage=True,
        ),
        _accepted({"stream": True, "stream_options": None}, stream=True),
        _accepted({"ignore_eos": True}, ignoreEos=True),
        _accepted({"deterministic": True}, deterministic=True),
        _accepted({"deterministic": False}, deterministic=False),
        _accepted({"deterministic": None}),
        _accepted({"messages": [*HELLO, COMES_BACK], "continue_final_message": True}, begun="Hi"),
        _accepted(
            {"messages": [*HELLO, COMES_BACK], "continue_final_message": False},
            messages=[*HELLO, {"role": "assistant", "content": "Hi"}],
        ),
        _refused("continue_final_message", {"continue_final_message": True}),
        _refused(
            "continue_final_message", {"messages": [COMES_BACK], "continue_final_message": True}
        ),
        _refused(
            "continue_final_message",
            {"messages": [*HELLO, COMES_BACK], "continue_final_message": 1},
        ),
        _refused("deterministic", {"deterministic": 1}),
        *(
            _accepted({name: value})
            for name, value in (
                ("tools", []),
                ("tool_choice", "none"),
                ("tool_choice", "auto"),
                ("functions", []),
                ("function_call", "none"),
                ("response_format", {"type": "text"}),
                ("best_of", 1),
                ("suffix", ""),
                ("modalities", ["text"]),
                ("parallel_tool_calls", True),
                ("parallel_tool_calls", False),
                ("reasoning_effort", None),
                ("verbosity", None),
                ("verbosity", "medium"),
                ("prediction", None),
                ("web_search_options", None),
                ("prompt_cache_key", "a"),
                ("prompt_cache_options", {"ttl": "1h"}),
                ("prompt_cache_retention", "24h"),
                ("safety_identifier", "b"),
                ("metadata", {"a": "b"}),
                ("store", False),
                ("service_tier", "auto"),
                ("stop", []),
                ("top_logprobs", 0),
                ("logprobs", False),
            )
        ),
        # An answer's message comes back as OpenAI's client wrote it.
        _accepted(
            {"messages": [*HELLO, COMES_BACK, *HELLO]},
            messages=[*HELLO, {"role": "assistant", "content": "Hi"}, *HELLO],
        ),
        _accepted({"messages": [{**HELLO[0], "name": "Ada", "whatever": None}]}),
        _accepted({"messages": [{"role": "user", "content": [{**parts[0], "text": "Hello"}]}]}),
        _accepted(
            {"messages": [{"role": "user", "content": [{**HINTED, "text": "Hello"}]}]},
        ),
        _accepted({"stream": True, "stream_options": {"include_obfuscation": False}}, stream=True),
        *(
            _refused(name, {name: value})
            for name, value in (
                ("tool_choice", "required"),
                ("function_call", {"name": "f"}),
                ("response_format", {"type": "json_object"}),
                ("response_format", {"type": "text", "strict": True}),
                ("best_of", 2),
                ("suffix", "x"),
                ("modalities", ["text", "audio"]),
                ("modalities", []),
                ("reasoning_effort", "low"),
                ("verbosity", "low"),
                ("prediction", {"type": "content", "content": "x"}),
                ("audio", {}),
                ("web_search_options", {}),
                ("echo", True),
                ("prompt", "x"),
            )
        ),
        *(
            _refused(f"messages[1].{name}", {"messages": [*HELLO, {**COMES_BACK, name: value}]})
            for name, value in (
                ("tool_calls", [{"id": "x"}]),
                ("function_call", {"name": "f"}),
                ("refusal", "No."),
                ("audio", {"id": "x"}),
                ("annotations", [{}]),
                ("tool_call_id", "x"),
                ("name", 5),
                ("content", None),
                ("content", 5),
                ("content", "half \ud83d"),
            )
        ),
        _refused(
            "messages[0].content[0].image_url",
            {"messages": [{"role": "user", "content": [{**parts[0], "image_url": "x"}]}]},
        ),
        _refused(
            "messages[0].content[1].text",
            {"messages": [{"role": "user", "content": [parts[0], {**parts[0], "text": "\udc00"}]}]},
        ),
        _refused("stream_options.every", {"stream": True, "stream_options": {"every": 2}}),
        _refused("stop", {"stop": ["\ud800"]}),
        _refused("temperature", {"temperature": _nested(300)}),
        _refused("n", {"n": {"a": _nested(50)}}),
        _refused("tools", {"tools": _nested(300)}),
        _refused("messages[0]", {"messages": _nested(300)}),
        _refused("model", {"model": "\ud800"}),
        _refused("model", {"model": ["tiny"]}),
        _refused("max_tokens", {"max_tokens": 1e300}),
        _refused("logit_bias", {"logit_bias": {"9" * 5000: 1}}),
        _refused("logit_bias", {"logit_bias": {"-1": 1}}),
        _refused("logit_bias", {"logit_bias": {"1": True}}),
        _refused("logit_bias", {"logit_bias": {"1": None}}),
        _refused("messages", {"messages": []}),
        _refused("messages", {"messages": "Hello"}),
        _refused("messages[0]", {"messages": ["Hello"]}),
        _refused("messages[0].role", {"messages": [{"role": "robot", "content": "x"}]}),
        _refused("messages[0].role", {"messages": [{"role": ["user"], "content": "x"}]}),
        _refused("messages[0].content", {"messages": [{"role": "user", "content": None}]}),
        _refused(
            "messages[0].content[0]",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        ),
        _refused("model", {"model": "other"}),
        _refused("max_tokens", {"max_tokens": 0}),
        _refused("max_tokens", {"max_tokens": 1.5}),
        _refused("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
        _refused("max_completion_tokens", {"max_completion_tokens": "6"}),
        _refused("n", {"n": 0}),
        _refused("n", {"n": 17}),
        _refused("seed", {"seed": 0.5}),
        _refused("seed", {"seed": 9007199254740992}),
        _refused("stop", {"stop": ""}),
        _refused("stop", {"stop": ["a", "b", "c", "d", "e"]}),
        _refused("stop", {"stop": [1]}),
        _refused("stop", {"stop": ["a", "b" * 1001]}),
        _refused("temperature", {"temperature": 2.1}),
        _refused("temperature", {"temperature": "hot"}),
        _refused("top_p", {"top_p": -0.1}),
        _refused("top_k", {"top_k": -2}),
        _refused("top_k", {"top_k": 1.5}),
        _refused("top_k", {"top_k": True}),
        _refused("min_p", {"min_p": 1.1}),
        _refused("min_p", {"min_p": -0.1}),
        _refused("presence_penalty", {"presence_penalty": 3}),
        _refused("frequency_penalty", {"frequency_penalty": -3}),
        _refused("repetition_penalty", {"repetition_penalty": 0}),
        _refused("logit_bias", {"logit_bias": {"100": 1}}),
        _refused("logit_bias", {"logit_bias": {"x": 1}}),
        _refused("logit_bias", {"logit_bias": {"1": 101}}),
        _refused("logit_bias", {"logit_bias": [1]}),
        _refused("logprobs", {"logprobs": 1}),
        _refused("top_logprobs", {"top_logprobs": 3}),
        _refused("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
        _refused("stream", {"stream": "yes"}),
        _refused("stream_options", {"stream_options": {"include_usage": True}}),
        _refused("tools", {"tools": [{"type": "function"}]}),
        _refused("temprature", {"temprature": 1}),
    ]
    return {"model": MODEL, "cases": cases}
