"""Token ids of GGUF files' vocabularies are those of the tokenizers that they come from."""

import json
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from mlc_edge.errors import CheckpointError
from tests.build.checkpoints import POCKET
from tests.gguf.vocabularies import (
    ROOT,
    TEXTS,
    WORDS,
    corpus,
    replacing_tokenizer,
    trained,
    with_pieces,
)
from tests.gguf.writing import write_gguf
from webbuild.gguf.checkpoint import open_gguf
from webbuild.gguf.pretokenizers import EXPRESSIONS
from webbuild.model_folder import ChatFiles


def chat_files(path: Path) -> ChatFiles:
    return open_gguf(path).chat


def tokenizer_of(chat: ChatFiles) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(chat.tokenizer))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


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
    # What people may write is no control token.
    assert found.decode(ids(found, "<|begin|>Hi :-)<|end|>")) == "Hi :-)"


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


def test_browsers_find_the_same_ids(tmp_path: Path, pieces: sentencepiece.SentencePieceProcessor):
    """Their engine has a tokenizer of its own, with the expressions of JavaScript."""
    words = trained(pre_tokenizers.Sequence(WORDS["gpt-2"]))
    changes = {pre: replacing_tokenizer(words, pre) for pre in EXPRESSIONS}
    changes |= {"pieces": with_pieces(pieces)}
    cases, expected = [], {}
    for name, change in changes.items():
        write_gguf(tmp_path / "model.gguf", change=change)
        chat = chat_files(tmp_path / "model.gguf")
        parts = {"tokenizer": chat.tokenizer, "config": chat.tokenizer_config}
        cases.append({**parts, "texts": TEXTS})
        expected[name] = [ids(tokenizer_of(chat), text) for text in TEXTS]
    result = subprocess.run(
        ["node", ROOT / "tests/gguf/browser_ids.mjs"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    assert dict(zip(changes, json.loads(result.stdout), strict=True)) == expected


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
        writer.add_int32("general.sampling.top_k", 40)

    path = tmp_path / "model.gguf"
    write_gguf(path, change=change)
    assert chat_files(path).generation_config == {
        "bos_token_id": 1,
        "eos_token_id": [2, 0, 7, 9],
        "temperature": 0.6,
        "top_k": 40,
        "top_p": 0.9,
    }


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(path, tokenizer=False)
    with pytest.raises(CheckpointError, match=r"tokenizer\.ggml\.model is missing"):
        chat_files(path)
