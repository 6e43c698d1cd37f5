from itertools import islice

import pytest

from models.pocket.training.conversations import stream
from models.pocket.training.tokenizer import (
    TURN_END_ID,
    encode_marked,
    render,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = (
    "",
    " ",
    "\n",
    "  two  spaces \t\r\n",
    "What is 17+25?",
    "naïve café",
    "日本語",
    "🙂👩‍👩‍👧",
    "\u0000\u200b",
    "Привет, мир",
    "ab\u0301c",
    "1234567890",
    "<|im_end",
    "it's N'Djamena",
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(islice(stream(0), 500), vocab_size=512)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_each_digit_is_a_token(tokenizer):
    pieces = tokenizer.encode("What is 17 + 250?").tokens
    assert [piece for piece in pieces if piece[-1].isdigit()] == ["1", "7", "2", "5", "0"]


def test_training_is_deterministic(tokenizer):
    again = train_tokenizer(islice(stream(0), 500), vocab_size=512)
    assert again.to_str() == tokenizer.to_str()


def test_marks_cover_the_answers_and_their_end_tokens(tokenizer):
    conversations = list(islice(stream(5), 40))
    for messages, (ids, marks) in zip(
        conversations, encode_marked(tokenizer, conversations), strict=True
    ):
        said = [token for token, mark in zip(ids, marks, strict=True) if mark]
        answers = [m["content"] for m in messages if m["role"] == "assistant"]
        assert said.count(TURN_END_ID) == len(answers)
        assert tokenizer.decode(said, skip_special_tokens=True) == "".join(answers)


def test_template_equals_render_and_only_appends(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_tokenizer(tokenizer, tmp_path, max_length=64)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        {"role": "system", "content": " keep my spaces "},
        {"role": "user", "content": "hi\n"},
        {"role": "assistant", "content": " Hello! "},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "1 + 1 = 2."},
    ]
    for end in range(1, len(messages) + 1):
        for prompt in (False, True):
            text = loaded.apply_chat_template(
                messages[:end], tokenize=False, add_generation_prompt=prompt
            )
            assert text == render(messages[:end], add_generation_prompt=prompt)
    for end in (2, 4):
        before = render(messages[:end], add_generation_prompt=True)
        after = render(messages[: end + 1])
        assert after == f"{before}{messages[end]['content']}<|im_end|>"
        ids = tokenizer.encode(after).ids
        assert ids[: len(tokenizer.encode(before).ids)] == tokenizer.encode(before).ids
