"""What a tokenizer puts before texts that no chat template wrote: <s> and the like."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import Sequence, TemplateProcessing

from mlc_edge.bundle import lock_files, read_lock, write_lock
from tests.daemon.daemons import QUESTION, Daemon, started

TEXT = "What is 17 + 25?"
BOS, EOS = "<|im_start|>", "<|im_end|>"


@pytest.fixture(scope="module")
def marked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, whose tokenizer puts one token before a text and one behind it."""
    marked = tmp_path_factory.mktemp("marked") / "bundle"
    shutil.copytree(bundle, marked)
    file = str(marked / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    ids = [(name, tokenizer.token_to_id(name)) for name in (BOS, EOS)]
    template = TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=ids)
    before = tokenizer.post_processor
    tokenizer.post_processor = Sequence([before, template]) if before else template
    tokenizer.save(file)
    write_lock(marked, replace(read_lock(marked), files=lock_files(marked)))
    return marked


@pytest.fixture(scope="module")
def daemon(marked: Path) -> Iterator[Daemon]:
    with started(marked) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def ids(marked: Path) -> list[int]:
    """What an answer to the text goes on from."""
    *ids, end = Tokenizer.from_file(str(marked / "tokenizer.json")).encode(TEXT).ids
    names = json.loads((marked / "tokenizer.json").read_text())["added_tokens"]
    special = {entry["content"]: entry["id"] for entry in names}
    assert (ids[0], end) == (special[BOS], special[EOS])
    return ids


def tokenize(daemon: Daemon, **body: Any) -> list[int]:
    tokens: list[int] = daemon.post("tokenize", json=body).json()["tokens"]
    return tokens


def test_texts_have_them_and_chats_have_their_templates(daemon: Daemon, ids: list[int]):
    assert tokenize(daemon, prompt=TEXT) == ids
    assert tokenize(daemon, prompt=TEXT, add_special_tokens=None) == ids
    assert tokenize(daemon, prompt=TEXT, add_special_tokens=False) == ids[1:]
    chat = tokenize(daemon, messages=QUESTION)
    assert (chat.count(ids[0]), chat[0]) == (2, ids[0])
    assert tokenize(daemon, messages=QUESTION, add_special_tokens=False) == chat
    assert tokenize(daemon, messages=QUESTION, add_special_tokens=True) == [ids[0], *chat]
    asked = daemon.ask(json={"messages": QUESTION, "max_tokens": 1}).json()
    assert asked["usage"]["prompt_tokens"] == len(chat)


def test_prompts_are_continued_from_them(daemon: Daemon, ids: list[int]):
    body = {"temperature": 0, "max_tokens": 6, "logprobs": 0, "ignore_eos": True}
    prompts = {"prompt": [TEXT, ids, ids[1:]]}
    answer = daemon.post("v1/completions", json={**body, **prompts}).json()
    text, tokens, bare = (choice["logprobs"]["token_logprobs"] for choice in answer["choices"])
    assert text == pytest.approx(tokens, abs=1e-3) and text != pytest.approx(bare, abs=1e-3)
    assert answer["usage"]["prompt_tokens"] == 3 * len(ids) - 1


def test_an_echo_is_the_prompts_text(daemon: Daemon, ids: list[int]):
    body = {"prompt": TEXT, "echo": True, "logprobs": 0, "max_tokens": 0}
    (choice,) = daemon.post("v1/completions", json=body).json()["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == TEXT
    assert (logprobs["tokens"][0], "".join(logprobs["tokens"][1:])) == (BOS, TEXT)
    assert logprobs["text_offset"][:3] == [0, 0, len(logprobs["tokens"][1])]
    assert logprobs["token_logprobs"][0] is None
    assert (
        len(logprobs["token_logprobs"]) == len(ids) and None not in logprobs["token_logprobs"][1:]
    )
