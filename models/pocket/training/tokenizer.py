"""The byte-level BPE tokenizer, its chat template, and tokens with the answers marked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from models.pocket.training.dialogue import Message

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
END_OF_TEXT_ID, TURN_START_ID, TURN_END_ID = range(3)
# Nothing is trimmed: then each turn only appends to the text before it, and caches stay valid.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '\\n<|im_start|>assistant\\n' }}"
    "{% endif %}"
)


def render(messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """What the chat template renders, without Jinja."""
    text = "\n".join(
        f"{TURN_START}{message['role']}\n{message['content']}{TURN_END}" for message in messages
    )
    if add_generation_prompt:
        text += f"\n{TURN_START}assistant\n"
    return text


def train_tokenizer(conversations: Iterable[Sequence[Message]], *, vocab_size: int) -> Tokenizer:
    """A tokenizer for the conversations' text; every byte is in it and every digit is alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (
        f"{message['role']}\n{message['content']}"
        for messages in conversations
        for message in messages
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode_marked(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]]
) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each conversation, with True where the model has to say the token.

    The model says an answer and the token that ends it.
    """
    encodings = tokenizer.encode_batch_fast([render(messages) for messages in conversations])
    return [(e.ids, _mark_answers(tokenizer, e.ids)) for e in encodings]


def _mark_answers(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bool]:
    opening = tokenizer.encode(f"{TURN_START}assistant\n").ids
    marks = [False] * len(ids)
    answering = False
    for position, token in enumerate(ids):
        marks[position] = answering
        if token == TURN_END_ID:
            answering = False
        elif ids[max(0, position + 1 - len(opening)) : position + 1] == opening:
            answering = True
    return marks


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_length: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` in the Hugging Face layout."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(i): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for i, token in enumerate(SPECIAL_TOKENS)
        },
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": TURN_START,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "padding_side": "left",
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
