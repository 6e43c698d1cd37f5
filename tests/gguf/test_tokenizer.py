"""Token ids of GGUF files' vocabularies are those of the tokenizers that they come from."""

import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from mlc_edge.errors import CheckpointError
from tests.build.checkpoints import CONFIG, POCKET
from tests.gguf.writing import write_gguf
from webbuild.gguf.checkpoint import open_gguf
from webbuild.model_folder import ChatFiles

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


def chat_files(path: Path) -> ChatFiles:
    return open_gguf(path).chat


def tokenizer_of(chat: ChatFiles) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(chat.tokenizer))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def corpus() -> list[str]:
    return [*SAMPLES * 20, *(ROOT / "README.md").read_text().splitlines()]


def test_pockets_vocabulary_comes_back(tmp_path: Path):
    write_gguf(tmp_path / "pocket.gguf")
    chat = chat_files(tmp_path / "pocket.gguf")
    found, expected = (tokenizer_of(chat), Tokenizer.from_file(str(POCKET / "tokenizer.json")))
    for text in (*TEXTS, "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>"):
        assert ids(found, text) == ids(expected, text)
        assert found.decode(ids(found, text), skip_special_tokens=False) == expected.decode(
            ids(expected, text), skip_special_tokens=False
        )
    config = json.loads((POCKET / "tokenizer_config.json").read_text())
    assert chat.tokenizer_config["chat_template"] == config["chat_template"]
    assert {f"{name}_token": chat.tokenizer_config[f"{name}_token"] for name in ("bos", "eos")} == {
        f"{name}_token": config[f"{name}_token"] for name in ("bos", "eos")
    }
    # <|endoftext|> ends answers, too, as it does in llama.cpp.
    assert chat.generation_config == {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0}


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


@pytest.mark.parametrize("pre", WORDS)
def test_words_are_cut_as_the_family_does(tmp_path: Path, pre: str):
    expected = trained(pre_tokenizers.Sequence(WORDS[pre]))
    path = tmp_path / "model.gguf"
    write_gguf(path, change=replacing_tokenizer(expected, pre))
    found = tokenizer_of(chat_files(path))
    for text in (*TEXTS, "<|begin|>Hi :-)<|end|>"):
        # Qwen2's tokenizer.json composes characters first.
        text = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
        assert ids(found, text) == ids(expected, text)


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "tekken", "gpt-2"])
def test_token_ids_are_those_of_transformers(tmp_path: Path, pre: str):
    """transformers makes a tokenizer of the same file, with its own table of expressions."""
    words = pre_tokenizers.Sequence(WORDS[pre])
    write_gguf(tmp_path / "model.gguf", change=replacing_tokenizer(trained(words), pre))
    found = tokenizer_of(chat_files(tmp_path / "model.gguf"))
    expected = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in TEXTS:
        text = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
        assert ids(found, text) == expected.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("pre", "flags", "added"),
    [
        ("gpt-2", {}, ([], [])),
        ("gpt-2", {"add_bos_token": True}, ([0], [])),
        ("llama-bpe", {}, ([0], [])),
        ("llama-bpe", {"add_bos_token": False, "add_eos_token": True}, ([], [1])),
    ],
)
def test_first_and_last_tokens_are_added_as_the_file_says(
    tmp_path: Path, pre: str, flags: dict[str, bool], added: tuple[list[int], list[int]]
):
    path = tmp_path / "model.gguf"
    tokenizer = trained(pre_tokenizers.Sequence(WORDS[pre]))
    write_gguf(path, change=replacing_tokenizer(tokenizer, pre, **flags))
    found = tokenizer_of(chat_files(path))
    assert found.encode("Hi").ids == [*added[0], *ids(tokenizer, "Hi"), *added[1]]


def test_whole_words_are_tokens_without_merges_in_llama_3(tmp_path: Path):
    """The vocabulary has a word that merges don't lead to."""
    tokenizer = trained(pre_tokenizers.Sequence(WORDS["llama-bpe"]))
    content = json.loads(tokenizer.to_str())
    word = max(
        (text for text in content["model"]["vocab"] if text.isascii() and text.isalpha()), key=len
    )
    content["model"]["merges"] = [
        pair for pair in content["model"]["merges"] if "".join(pair) != word
    ]
    unmerged = Tokenizer.from_str(json.dumps(content))
    for pre, whole in (("llama-bpe", True), ("qwen2", False)):
        path = tmp_path / f"{pre}.gguf"
        write_gguf(path, change=replacing_tokenizer(unmerged, pre))
        found = ids(tokenizer_of(chat_files(path)), word)
        assert (found == [content["model"]["vocab"][word]]) is whole


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> sentencepiece.SentencePieceProcessor:
    """A vocabulary by SentencePiece itself, as Llama 2's was made."""
    folder = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_prefix=str(folder / "pieces"),
        model_type="bpe",
        vocab_size=1000,
        byte_fallback=True,
        character_coverage=0.98,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))


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


def test_sentence_pieces_are_joined_by_their_scores(
    tmp_path: Path, pieces: sentencepiece.SentencePieceProcessor
):
    path = tmp_path / "model.gguf"
    write_gguf(path, change=with_pieces(pieces))
    chat = chat_files(path)
    found = tokenizer_of(chat)
    texts = [text for text in TEXTS if text]
    assert any(pieces.is_byte(id) for text in texts for id in pieces.encode(text))
    for text in texts:
        assert ids(found, text) == pieces.encode(text)
        assert found.decode(ids(found, text)) == text
    assert found.encode("Hi").ids == [pieces.bos_id(), *pieces.encode("Hi")]
    assert chat.generation_config["eos_token_id"] == [pieces.eos_id()]


def test_a_space_is_put_first_only_where_the_file_says_so(
    tmp_path: Path, pieces: sentencepiece.SentencePieceProcessor
):
    path = tmp_path / "model.gguf"
    write_gguf(path, change=with_pieces(pieces, add_space_prefix=False))
    found = tokenizer_of(chat_files(path))
    assert pieces.id_to_piece(ids(found, "the end")[0])[0] != "\u2581"
    assert found.decode(ids(found, " the end")) == " the end"


def changed(key: str, value: Any) -> Callable[[Any], None]:
    def change(writer: gguf.GGUFWriter) -> None:
        former = writer.kv_data[0].pop(f"tokenizer.ggml.{key}", None)
        new = value(former.value) if callable(value) else value
        if isinstance(new, list):
            writer.add_array(f"tokenizer.ggml.{key}", new)
        elif new is not None:
            add = writer.add_string if isinstance(new, str) else writer.add_uint32
            add(f"tokenizer.ggml.{key}", new)

    return change


REFUSED = {
    "kind": (changed("model", "t5"), "tokenizer.ggml.model is 't5', and only 'gpt2' and 'llama'"),
    "words": (
        changed("pre", "secret"),
        "tokenizer.ggml.pre is 'secret', and only these are known: a.x-4.0, codeshell, command-r, dbrx",
    ),
    "no tokens": (changed("tokens", None), "tokenizer.ggml.tokens is missing"),
    "a token twice": (
        changed("tokens", lambda tokens: [*tokens[:-1], tokens[5]]),
        "tokenizer.ggml.tokens has",
    ),
    "too many tokens": (
        changed("tokens", lambda tokens: [*tokens, "<new>"]),
        "it has 1025 tokens, and embeddings of 1024",
    ),
    "few kinds": (
        changed("token_type", lambda kinds: kinds[:-1]),
        "tokenizer.ggml.token_type is a list of 1023, expected a list of 1024 numbers",
    ),
    "no merges": (changed("merges", None), "tokenizer.ggml.merges is missing"),
    "an odd merge": (
        changed("merges", lambda merges: [*merges, "ab"]),
        "element 765 of tokenizer.ggml.merges is 'ab'",
    ),
    "a merge of nothing": (
        changed("merges", lambda merges: ["q \u0120zzz", *merges]),
        "element 0 of tokenizer.ggml.merges",
    ),
    "no such token": (changed("eos_token_id", 5000), "eos_token_id is 5000, expected a token id"),
}


@pytest.mark.parametrize(("change", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_damaged_vocabularies_are_refused(
    tmp_path: Path, change: Callable[[Any], None], problem: str
):
    path = tmp_path / "model.gguf"
    write_gguf(path, change=change)
    with pytest.raises(CheckpointError) as error:
        chat_files(path)
    assert problem in str(error.value)


def test_the_ends_of_turns_and_messages_end_answers(tmp_path: Path):
    def change(writer: gguf.GGUFWriter) -> None:
        writer.add_uint32("tokenizer.ggml.eot_token_id", 7)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 9)
        # What converters write for no token.
        writer.kv_data[0].pop("tokenizer.ggml.padding_token_id")
        writer.add_uint32("tokenizer.ggml.padding_token_id", 0xFFFFFFFF)
        writer.add_float32("general.sampling.temp", 0.6)
        writer.add_float32("general.sampling.top_p", 0.9)

    path = tmp_path / "model.gguf"
    write_gguf(path, change=change)
    assert chat_files(path).generation_config == {
        "bos_token_id": 1,
        "eos_token_id": [2, 0, 7, 9],
        "temperature": 0.6,
        "top_p": 0.9,
    }


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path, tokenizer=False)
    with pytest.raises(CheckpointError, match=r"tokenizer\.ggml\.model is missing"):
        chat_files(path)
