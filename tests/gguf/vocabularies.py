"""Vocabularies that other programs made, and texts that are hard to cut."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.build.checkpoints import CONFIG

ROOT = Path(__file__).parents[2]
SAMPLES = (
    "The quick brown fox's tail; it'LL jump, WE'VE seen 12345 of 3.14159 them!?\n\n\tdef f(x):\r\n    return",
    "Grüße aus München, ÉCOLE naïve \u0130stanbul; Привет, мир! Ελληνικά ქართული",
    "日本語のテキスト、中文字符 한국어 문장 ไทย हिन्दी العربية עברית",
    "\N{PARTY POPPER}\N{WAVING HAND SIGN}\U0001f3fe \u00bd \u00b2 \u2167 e\u0301 \ufb01",
    " leading,   many    spaces \n \n  trailing  \n",
    "snake_case camelCase HTTPServer x=1;y+=2 <tag/> {a: [1,22,333,4444]} \\ ~|^` $100 \u20ac5",
    "",
    " ",
    "a",
)


def random_texts(count: int = 60) -> list[str]:
    """Pieces of the samples, in odd orders."""
    generator = random.Random(0)
    joined = "".join(SAMPLES)
    return [
        "".join(generator.choice(joined) for _ in range(generator.randint(1, 40)))
        for _ in range(count)
    ]


TEXTS = (*SAMPLES, *random_texts())


def corpus() -> list[str]:
    return [*SAMPLES * 20, *(ROOT / "README.md").read_text().splitlines()]


# Whole expressions as tokenizer.json files of these families have them.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(expression: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(expression), "isolated")


def bytes_of_words(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


WORDS = {
    "gpt-2": [bytes_of_words(True)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), bytes_of_words(True)],
    "starcoder": [pre_tokenizers.Digits(individual_digits=True), bytes_of_words(True)],
    "llama-bpe": [split(LLAMA3), bytes_of_words(False)],
    "qwen2": [split(QWEN2), bytes_of_words(False)],
    "tekken": [split(TEKKEN), bytes_of_words(False)],
    "deepseek-coder": [
        split(r"[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
        pre_tokenizers.Digits(individual_digits=True),
        bytes_of_words(False),
    ],
}


def trained(words: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """A byte-level vocabulary of 900 tokens, of which two are special and one is an emoticon."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        show_progress=False,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([":-)"])
    return tokenizer


def replacing_tokenizer(tokenizer: Tokenizer, pre: str, **flags: bool) -> Callable[[Any], None]:
    def change(writer: gguf.GGUFWriter) -> None:
        for key in [key for key in writer.kv_data[0] if key.startswith("tokenizer.ggml")]:
            del writer.kv_data[0][key]
        count = tokenizer.get_vocab_size()
        tokens = [tokenizer.id_to_token(id) for id in range(count)]
        kinds = [3 if id < 2 else 1 for id in range(count)]
        kinds[tokens.index(":-)")] = 4
        # Room up to the embeddings' number of rows, as converters make it.
        rest = range(count, CONFIG["vocab_size"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([*tokens, *(f"[PAD{id}]" for id in rest)])
        writer.add_token_types([*kinds, *(5 for _ in rest)])
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_token_merges([" ".join(pair) for pair in merges])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        for key, value in flags.items():
            writer.add_bool(f"tokenizer.ggml.{key}", value)

    return change


def with_pieces(
    processor: sentencepiece.SentencePieceProcessor, **flags: bool
) -> Callable[[Any], None]:
    def kind(id: int) -> int:
        checks = {2: "IsUnknown", 3: "IsControl", 5: "IsUnused", 6: "IsByte"}
        return next((n for n, check in checks.items() if getattr(processor, check)(id)), 1)

    def change(writer: gguf.GGUFWriter) -> None:
        for key in [key for key in writer.kv_data[0] if key.startswith("tokenizer.ggml")]:
            del writer.kv_data[0][key]
        all_ids = range(processor.get_piece_size())
        writer.add_tokenizer_model("llama")
        writer.add_token_list([processor.id_to_piece(id) for id in all_ids])
        writer.add_token_scores([processor.get_score(id) for id in all_ids])
        writer.add_token_types([kind(id) for id in all_ids])
        writer.add_bos_token_id(processor.bos_id())
        writer.add_eos_token_id(processor.eos_id())
        writer.add_unk_token_id(processor.unk_id())
        for key, value in flags.items():
            writer.add_bool(f"tokenizer.ggml.{key}", value)

    return change
