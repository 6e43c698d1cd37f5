"""What people expect beside OpenAI's API: other names, tokens, cancelling by id."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tokenizers import Tokenizer

from tests.daemon.conftest import Guarded
from tests.daemon.daemons import LONG, MODEL, QUESTION, SHORT, Daemon, started, wait_until


@pytest.fixture(scope="module")
def named(bundle: Path) -> Iterator[Daemon]:
    with started(
        bundle, "--served-model-name", "gpt-4o", "--served-model-name", "acme/pocket"
    ) as daemon:
        yield daemon


def test_a_model_has_the_names_that_it_is_given(named: Daemon):
    listed = named.get("v1/models").json()["data"]
    assert [(entry["id"], entry["root"]) for entry in listed] == [
        ("gpt-4o", MODEL),
        ("acme/pocket", MODEL),
    ]
    assert named.get("v1/models/acme/pocket").json()["id"] == "acme/pocket"
    for name in ("gpt-4o", "acme/pocket", None):
        answer = named.ask(json={**SHORT, "model": name})
        assert (answer.status_code, answer.json()["model"]) == (200, "gpt-4o")
    refused = named.ask(json={**SHORT, "model": MODEL})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "gpt-4o" in refused.json()["error"]["message"]


def test_texts_and_chats_become_tokens_and_texts_again(daemon: Daemon, bundle: Path):
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    text = "What is 17 + 25? 🙂"
    answer = daemon.post("tokenize", json={"model": MODEL, "prompt": text}).json()
    assert answer["tokens"] == tokenizer.encode(text, add_special_tokens=False).ids
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 1024)
    assert daemon.post("detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": text}
    chat = daemon.post("tokenize", json={"messages": QUESTION}).json()
    usage = daemon.ask(json=SHORT).json()["usage"]
    assert chat["count"] == usage["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": 7}, "prompt"),
        ("tokenize", {"messages": "Hello"}, "messages"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": [1e999]}, None),
        ("detokenize", {"tokens": [-1]}, "tokens"),
        ("detokenize", {"tokens": [10**9]}, "tokens"),
        ("detokenize", {"tokens": [True]}, "tokens"),
        ("detokenize", {"tokens": "1"}, "tokens"),
    ],
)
def test_what_is_no_text_is_refused(daemon: Daemon, path: str, body: object, param: str | None):
    answer = daemon.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_tokenizing_needs_a_key_where_there_are_keys(guarded: Guarded):
    assert guarded.daemon.post("tokenize", json={"prompt": "a"}).status_code == 401
    assert guarded.daemon.get("tokenizer_info").status_code == 401


def test_a_request_is_cancelled_by_the_id_of_its_answer(daemon: Daemon):
    client = openai.OpenAI(base_url=daemon.api, api_key="none", max_retries=0)
    more = {"extra_body": {"ignore_eos": True}, **LONG}
    del more["ignore_eos"]
    with client.chat.completions.create(model=MODEL, **more) as stream:
        chunks = iter(stream)
        name = next(chunks).id
        cancelled = daemon.post(f"v1/requests/{name}/cancel")
        assert cancelled.json() == {"id": name, "object": "request", "cancelled": True}
        reasons = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert reasons == ["abort"] * LONG["n"]
    again = daemon.post(f"v1/requests/{name}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "request_not_found")


def test_a_cancelled_request_frees_its_place(bundle: Path):
    with started(bundle, "--max-batch", 1, "--max-queue", 0) as daemon:
        names: list[str] = []

        def read() -> None:
            with daemon.client().stream("POST", "v1/chat/completions", json=LONG) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        names.append(json.loads(line.removeprefix("data: "))["id"])

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: bool(names))
        assert daemon.ask(json=SHORT).status_code == 429
        assert daemon.post(f"v1/requests/{names[0]}/cancel").status_code == 200
        reader.join()
        assert daemon.ask(json=SHORT).status_code == 200
