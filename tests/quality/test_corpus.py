"""Which tokens a quantiser learns from, beside transformers' tokenizer and templates."""

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.build.checkpoints import POCKET
from webbuild.calibration.corpus import CHATS, FOLDER, HELD_OUT, TEXT, TokenIds
from webbuild.checkpoint import open_checkpoint
from webbuild.effort import Rounding

LENGTH, COUNT = 48, 9


@pytest.fixture(scope="module")
def own() -> TokenIds:
    return TokenIds(open_checkpoint(POCKET).chat)


def expected_ids(*, with_chats: bool, file: Path) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    texts = [file.read_text()]
    if with_chats:
        texts += [
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in json.loads((FOLDER / CHATS).read_text())
        ]
    return [id for text in texts for id in tokenizer.encode(text, add_special_tokens=False)]


@pytest.mark.parametrize("given", [None, FOLDER / HELD_OUT], ids=["own", "given"])
def test_windows_are_spread_over_the_whole_text(own: TokenIds, given: Path | None):
    found = own.calibration(given, context=LENGTH, tokens=LENGTH * COUNT + 5)
    ids = expected_ids(with_chats=given is None, file=given or FOLDER / TEXT)
    windows = [ids[at : at + LENGTH] for at in range(0, len(ids) - LENGTH + 1, LENGTH)]
    assert len(windows) > COUNT
    places = [windows.index(row) for row in found.tolist()]
    assert len(places) == COUNT
    assert (places[0], places[-1]) == (0, len(windows) - 1)
    steps = [after - before for before, after in itertools.pairwise(places)]
    assert min(steps) >= 1
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize(
    "template",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        '{{ "x" * 10**18 }}',
        '{{ "\\ud800" }}',
        "{% if %}",
    ],
)
def test_where_a_template_goes_wrong_conversations_are_paragraphs(template: str):
    chat = open_checkpoint(POCKET).chat
    changed = replace(chat, tokenizer_config={**chat.tokenizer_config, "chat_template": template})
    found = TokenIds(changed).calibration(None, context=LENGTH, tokens=10**6).flatten().tolist()
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    texts = [(FOLDER / TEXT).read_text()]
    for messages in json.loads((FOLDER / CHATS).read_text()):
        texts.append("\n\n".join(message["content"] for message in messages))
    ids = [id for text in texts for id in tokenizer.encode(text, add_special_tokens=False)]
    assert found == ids[: len(ids) // LENGTH * LENGTH]


def test_windows_are_as_long_as_the_context_allows(own: TokenIds):
    assert own.calibration(None, context=200, tokens=2048).shape == (10, 200)
    assert own.calibration(None, context=100_000, tokens=2048).shape == (4, 512)
    assert own.calibration(None, context=200, tokens=10).shape == (1, 200)


def test_a_text_of_just_a_window_is_one(own: TokenIds):
    ids = expected_ids(with_chats=False, file=FOLDER / HELD_OUT)
    text = (FOLDER / HELD_OUT).read_text()
    for length in (len(ids) - 1, len(ids), len(ids) + 1):
        (found,) = own.sequences(text, length=length, count=3).tolist()
        assert found == ids[:length]


def test_the_texts_hash_is_of_all_that_is_read():
    content = (FOLDER / TEXT).read_bytes() + (FOLDER / CHATS).read_bytes()
    assert Rounding().text_hash == Rounding("best").text_hash == hashlib.sha256(content).hexdigest()
    given = Rounding(calibration=FOLDER / HELD_OUT)
    assert given.text_hash == hashlib.sha256((FOLDER / HELD_OUT).read_bytes()).hexdigest()
    assert Rounding("fast").text_hash is None
