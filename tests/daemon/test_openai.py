"""The official client, unchanged, and curl."""

import asyncio
import json
import subprocess

import openai
import pytest

from tests.daemon.conftest import KEY, Guarded
from tests.daemon.daemons import LONG, MODEL, QUESTION, SHORT, Daemon, wait_until


def client_of(daemon: Daemon, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=daemon.api, api_key=key, max_retries=0)


@pytest.fixture
def client(daemon: Daemon) -> openai.OpenAI:
    return client_of(daemon)


def test_answers_with_usage(client: openai.OpenAI):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "42" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


def test_stream_says_the_same(client: openai.OpenAI):
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    assert (last.choices, last.usage.completion_tokens) == ([], whole.usage.completion_tokens)


def test_usage_comes_only_when_asked_for(client: openai.OpenAI):
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    chunks = list(stream)
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_completions(client: openai.OpenAI):
    whole = client.completions.create(model=MODEL, prompt="17 + 25 =", temperature=0, max_tokens=6)
    stream = client.completions.create(
        model=MODEL, prompt="17 + 25 =", temperature=0, max_tokens=6, stream=True
    )
    assert whole.object == "text_completion"
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in stream)
    assert whole.usage.completion_tokens <= 6


def test_async_requests_join_one_batch(daemon: Daemon):
    async def ask(seed: int) -> str:
        async with openai.AsyncOpenAI(base_url=daemon.api, api_key="none") as client:
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=QUESTION,
                seed=seed,
                temperature=1,
                max_tokens=20,
                stream=True,
                extra_body={"deterministic": True},
            )
            chunks = [chunk async for chunk in stream]
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    async def ask_all() -> tuple[list[str], list[str]]:
        together = await asyncio.gather(*(ask(seed) for seed in range(6)))
        return together, [await ask(seed) for seed in range(6)]

    together, alone = asyncio.run(ask_all())
    assert together == alone


def test_an_answer_is_sent_back_as_it_came(client: openai.OpenAI):
    first = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    message = first.choices[0].message
    for said in (message, message.model_dump(), message.to_dict()):
        turns = [*QUESTION, said, {"role": "user", "content": "What is 1 + 1?"}]
        answer = client.chat.completions.create(model=MODEL, messages=turns, max_tokens=3)
        assert answer.usage.prompt_tokens > first.usage.total_tokens


def test_a_prompt_is_scored(client: openai.OpenAI):
    answer = client.completions.create(
        model=MODEL, prompt="17 + 25 =", echo=True, logprobs=0, max_tokens=0
    )
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text == "".join(logprobs.tokens) == "17 + 25 ="
    assert logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in logprobs.token_logprobs[1:])


def test_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == [MODEL]
    model = client.models.retrieve(MODEL)
    assert model.owned_by == "mlc-edge"
    assert model.model_dump()["sampling"] == {"temperature": 0}
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.models.retrieve("other")


def test_wrong_parameter(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_request")


@pytest.mark.parametrize("stream", [False, True])
def test_context_that_is_too_long(client: openai.OpenAI, stream: bool):
    messages = [{"role": "user", "content": "seventeen " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages, stream=stream)
    assert caught.value.code == "context_length_exceeded"


def test_other_model(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_embeddings_are_refused_in_words(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="not supported by this model"):
        client.embeddings.create(model=MODEL, input="text")


def test_wrong_key(guarded: Guarded):
    with pytest.raises(openai.AuthenticationError) as caught:
        client_of(guarded.daemon, "sk-wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    assert [model.id for model in client_of(guarded.daemon, KEY).models.list()] == [MODEL]


def test_full_queue(guarded: Guarded):
    client = client_of(guarded.daemon, KEY)
    running = client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, extra_body=LONG
    )
    with running:
        next(iter(running))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, **SHORT)
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) > 0
    wait_until(lambda: guarded.daemon.metric("active_requests", guarded.authorized) == 0)


def test_curl(daemon: Daemon):
    command = ["curl", "-sN", f"{daemon.api}/chat/completions"]
    command += ["-H", "Content-Type: application/json", "-d"]
    body = {**SHORT, "max_tokens": 20}
    whole = subprocess.check_output([*command, json.dumps(body)], text=True)
    assert "42" in json.loads(whole)["choices"][0]["message"]["content"]
    streamed = subprocess.check_output([*command, json.dumps({**body, "stream": True})], text=True)
    events = streamed.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-2])
