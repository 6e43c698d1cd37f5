"""What a caller of the Python engine gets: OpenAI's objects, streams, stops, errors."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_edge import MLCEngine
from mlc_edge.bundle import lock_files, read_lock, write_lock
from mlc_edge.errors import BundleError, ConfigError, EngineError
from mlc_edge.openai import ChatCompletion, ChatCompletionChunk
from tests.python_engine.conftest import OpenEngine, text_of, user

CAPITAL = "What is the capital of France?"
ANSWER = "The capital of France is Paris."


def test_answers_are_openais_objects(engine: MLCEngine):
    content = engine.chat.completions.create(messages=user(CAPITAL)).to_dict()
    assert content["object"] == "chat.completion"
    assert content["model"] == engine.model.id == "pocket-q4f16_1"
    assert content["choices"] == (
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        },
    )
    usage = content["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["extra"]["decode_tokens_per_s"] > 0


def test_streams_say_the_same_in_pieces(engine: MLCEngine):
    chunks = list(
        engine.chat.completions.create(
            messages=user(CAPITAL), stream=True, stream_options={"include_usage": True}
        )
    )
    content = [chunk.to_dict() for chunk in chunks]
    assert content[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in content[:-1]]
    assert "".join(deltas) == ANSWER
    assert content[-2]["choices"][0]["finish_reason"] == "stop"
    assert content[-1]["choices"] == ()
    assert content[-1]["usage"]["completion_tokens"] > 5
    assert {chunk["id"] for chunk in content} == {content[0]["id"]}


def test_streams_without_usage_have_no_such_field(engine: MLCEngine):
    chunks = engine.chat.completions.create(messages=user(CAPITAL), stream=True)
    assert not any("usage" in chunk.to_dict() for chunk in chunks)


def test_objects_are_read_back_from_their_json(engine: MLCEngine):
    asked = {"messages": user(CAPITAL), "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
    answer = engine.chat.completions.create(**asked)
    content = json.loads(json.dumps(answer.to_dict()))
    assert ChatCompletion.from_dict({**content, "system_fingerprint": "fp"}) == answer
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    for options in ({"stream": True}, usage):
        for chunk in engine.chat.completions.create(**asked, **options):
            text = json.dumps(chunk.to_dict())
            assert ChatCompletionChunk.from_dict(json.loads(text)) == chunk


def test_what_another_server_leaves_out_is_none():
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    answer = ChatCompletion.from_dict({"id": "1", "created": 0, "choices": [choice]})
    assert answer.choices[0].message.content == "Hi"
    assert answer.usage is None and answer.choices[0].logprobs is None


@pytest.mark.parametrize("stop", ["France", ["is", "France"], "ance is"])
def test_stop_strings_end_the_answer_before_them(engine: MLCEngine, stop: str | list[str]):
    answer = engine.chat.completions.create(messages=user(CAPITAL), stop=stop)
    assert (
        answer.choices[0].message.content
        == ANSWER[: ANSWER.index(stop if isinstance(stop, str) else "France")]
    )
    assert answer.choices[0].finish_reason == "stop"


def test_length_ends_an_answer(engine: MLCEngine):
    answer = engine.chat.completions.create(messages=user(CAPITAL), max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("begun", ["The", "The capital", "The capital of France is Par"])
def test_an_answer_that_was_cut_off_goes_on(engine: MLCEngine, begun: str):
    messages = [*user(CAPITAL), {"role": "assistant", "content": begun}]
    answer = engine.chat.completions.create(messages=messages, continue_final_message=True)
    assert begun + answer.choices[0].message.content == ANSWER


def test_log_probabilities_belong_to_the_text(engine: MLCEngine):
    answer = engine.chat.completions.create(messages=user(CAPITAL), logprobs=True, top_logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    text = b"".join(bytes(entry.bytes or ()) for entry in logprobs.content).decode()
    assert text == ANSWER
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        # Greedy: what was taken is the most probable.
        assert entry.top_logprobs[0].logprob == entry.logprob <= 0


def test_bias_forbids_tokens(engine: MLCEngine):
    free = engine.chat.completions.create(messages=user(CAPITAL), logprobs=True, max_tokens=1)
    token = free.choices[0].logprobs.content[0].token
    ids = [id for id in range(1024) if engine._engine._text.vocabulary.text(id) == token]
    answer = engine.chat.completions.create(
        messages=user(CAPITAL), max_tokens=1, logit_bias={str(id): -100 for id in ids}
    )
    assert answer.choices[0].message.content != token


def test_plain_completions_echo_and_count(engine: MLCEngine):
    answer = engine.completions.create(
        prompt=["Once upon", [5, 6, 7]], max_tokens=4, echo=True, n=2, temperature=1, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text.startswith("Once upon") for choice in answer.choices[:2])
    assert answer.usage.completion_tokens == 16
    assert answer.to_dict()["object"] == "text_completion"


def test_plain_completions_stream(engine: MLCEngine):
    whole = engine.completions.create(prompt="Once upon", max_tokens=12)
    parts = engine.completions.create(prompt="Once upon", max_tokens=12, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_completions_log_probabilities_are_openais_old_form(engine: MLCEngine):
    answer = engine.completions.create(prompt="Once upon", max_tokens=4, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 4
    assert logprobs.text_offset[0] == 0


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 1e-320, "top_p": 0.9},
        {"temperature": 5e-324, "top_p": 5e-324, "min_p": 1},
        {"temperature": 2, "top_p": 0, "top_k": 1},
        {"temperature": 2, "repetition_penalty": 0.01, "frequency_penalty": -2},
        {"temperature": 0, "logit_bias": {str(id): -100 for id in range(1024)}},
        {"temperature": 1, "min_p": 5e-324, "logprobs": True, "top_logprobs": 20},
    ],
)
def test_extreme_settings_are_answered(engine: MLCEngine, extreme: dict):
    answer = engine.chat.completions.create(
        messages=user(CAPITAL), max_tokens=4, ignore_eos=True, **extreme
    )
    assert answer.usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1.5]}, "prompt[0]"),
        ({"prompt": [float("inf")]}, "prompt[0]"),
        ({"prompt": "a", "logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"prompt": ["a", 7]}, "prompt[1]"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
    ],
)
def test_wrong_completion_requests_are_refused(engine: MLCEngine, params: dict, param: str):
    with pytest.raises(EngineError) as error:
        engine.completions.create(**params)
    assert (error.value.code, error.value.param) == ("invalid_request", param)


def test_a_prompt_beyond_the_context_is_refused(engine: MLCEngine):
    with pytest.raises(EngineError, match="reads at most") as error:
        text_of(engine, "word " * 2000)
    assert error.value.code == "context_length_exceeded"


def test_truncate_oldest_drops_old_turns(open_engine: OpenEngine):
    engine = open_engine(context_policy="truncate-oldest")
    old = [*user("word " * 900), {"role": "assistant", "content": "Fine."}]
    answer = engine.chat.completions.create(messages=[*old, *user(CAPITAL)])
    assert answer.choices[0].message.content == ANSWER


def test_the_library_passes_its_self_check(engine: MLCEngine):
    engine.check()


def test_wrong_configurations_say_what_is_wrong(pocket_bundle: Path, open_engine: OpenEngine):
    with pytest.raises(ConfigError, match="mode is 'fast'"):
        open_engine(mode="fast")
    with pytest.raises(BundleError, match="no library for 'pi5'"):
        open_engine(target="pi5")
    with pytest.raises(EngineError, match="too little memory"):
        open_engine(memory_limit_bytes=1)
    with pytest.raises(ConfigError, match="no folder"):
        MLCEngine(pocket_bundle / "missing")


def test_memory_that_the_weights_will_take_is_not_given_to_the_cache(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
):
    weights = open_engine().stats().parameter_bytes
    monkeypatch.setattr("mlc_edge.model_runner.available_bytes", lambda: weights)
    with pytest.raises(EngineError, match="too little memory"):
        open_engine()


def test_importing_the_package_loads_no_tvm_and_running_no_compiler(pocket_bundle: Path):
    script = (
        "import sys, mlc_edge\n"
        "assert not any(name.split('.')[0] in ('tvm', 'numpy') for name in sys.modules)\n"
        f"with mlc_edge.MLCEngine({str(pocket_bundle)!r}) as engine:\n"
        "    engine.completions.create(prompt='a', max_tokens=2)\n"
        "loaded = {n for n in sys.modules if n.startswith(('tvm.relax', 'webbuild', 'torch'))}\n"
        "assert loaded <= {n for n in loaded if n.startswith('torch')}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_abi_is_refused_with_both_numbers(pocket_bundle: Path, tmp_path: Path):
    other = tmp_path / "pocket-q4f16_1"
    shutil.copytree(pocket_bundle, other)
    write_lock(other, replace(read_lock(other), abi_version=99))
    with pytest.raises(BundleError, match="ABI 99 and this mlc-edge has 3"):
        MLCEngine(other)
    library = other / "lib/native.so"
    # The lock says 3, the library's own metadata says 7.
    library.write_bytes(library.read_bytes().replace(b'{"abi_version":3,', b'{"abi_version":7,'))
    write_lock(other, replace(read_lock(other), abi_version=3, files=lock_files(other)))
    with pytest.raises(BundleError, match="has ABI 7 and this mlc-edge has 3"):
        MLCEngine(other)
