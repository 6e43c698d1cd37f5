"""tokenizer.json from a GGUF file's vocabulary (https://huggingface.co/docs/tokenizers)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from webbuild.gguf.metadata import Metadata
from webbuild.gguf.pretokenizers import COMPOSED, WHOLE_WORDS, Part, pre_tokenizer

TOKENS, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
MERGES, SCORES = "tokenizer.ggml.merges", "tokenizer.ggml.scores"
MODEL = "tokenizer.ggml.model"
BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
# Kinds of tokens in `tokenizer.ggml.token_type`.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# That all ways to cut a token in two may be tried, and kept: vocabularies have a few for each token.
LONGEST_PIECE = 256
MOST_MERGES = 1 << 22
SPACE = "\u2581"
# They end an answer whatever kind of token a file says they are, as in llama.cpp.
ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<|end_of_text|>",
)


class Vocabulary:
    """The file's tokens by id, and their kinds; what is wrong with them is noted in the metadata."""

    def __init__(self, metadata: Metadata) -> None:
        tokens = metadata.texts(TOKENS)
        # A token without text would be found everywhere.
        self.tokens = [text or f"[EMPTY_{id}]" for id, text in enumerate(tokens)]
        self.ids = {text: id for id, text in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(text for id, text in enumerate(self.tokens) if self.ids[text] != id)
            metadata.problems.append(f"{TOKENS} has {twice!r:.60} twice")
        kinds = (
            metadata.numbers(TYPES, len(tokens)) if metadata.has(TYPES) else [NORMAL] * len(tokens)
        )
        self.kinds = [
            CONTROL if text in ENDS else kind
            for text, kind in zip(self.tokens, kinds, strict=False)
        ]

    def of_kind(self, *kinds: int) -> Iterator[tuple[int, str, float]]:
        """Ids, texts and kinds of tokens."""
        for id, (text, kind) in enumerate(zip(self.tokens, self.kinds, strict=False)):
            if kind in kinds:
                yield id, text, kind


def tokenizer_json(metadata: Metadata, vocabulary: Vocabulary) -> dict[str, Any]:
    """The file's content; empty, and a problem, for a kind of tokenizer that isn't supported."""
    kind = metadata.text(MODEL)
    if kind == BYTE_LEVEL:
        parts, adds_first = _byte_level(metadata, vocabulary)
    elif kind == SENTENCE_PIECE:
        parts, adds_first = _sentence_piece(metadata, vocabulary), True
    else:
        metadata.problems.append(
            f"{MODEL} is {kind!r:.40}, and only {BYTE_LEVEL!r} and {SENTENCE_PIECE!r} are supported"
        )
        return {}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind != USER_DEFINED,
            }
            for id, text, kind in vocabulary.of_kind(UNKNOWN, CONTROL, USER_DEFINED)
        ],
        **parts,
        "post_processor": _post_processor(metadata, vocabulary, adds_first=adds_first),
    }


def _byte_level(metadata: Metadata, vocabulary: Vocabulary) -> tuple[Part, bool]:
    """Parts of tokenizer.json, and whether texts begin with a first token unless the file says so."""
    name, words = pre_tokenizer(metadata)
    model = _bpe(vocabulary, _file_merges(metadata, vocabulary), ignore_merges=name in WHOLE_WORDS)
    parts = {
        "normalizer": {"type": "NFC"} if name in COMPOSED else None,
        "pre_tokenizer": words,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": model,
    }
    return parts, name in WHOLE_WORDS


def _sentence_piece(metadata: Metadata, vocabulary: Vocabulary) -> Part:
    """A space goes before each text between special tokens, as in Llama 2's tokenizer.json and llama.cpp."""
    spaced = metadata.flag("tokenizer.ggml.add_space_prefix", True)
    to_signs = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = [{"type": "Prepend", "prepend": SPACE}] if spaced else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if spaced else []
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *strip,
    ]
    merges = (
        _file_merges(metadata, vocabulary)
        if metadata.has(MERGES)
        else list(_merges_by_score(metadata, vocabulary))
    )
    unknown = metadata.token("tokenizer.ggml.unknown_token_id", len(vocabulary.tokens))
    model = _bpe(
        vocabulary,
        merges,
        unk_token=None if unknown is None else vocabulary.tokens[unknown],
        fuse_unk=True,
        byte_fallback=any(vocabulary.of_kind(BYTE)),
    )
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, to_signs]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def _bpe(
    vocabulary: Vocabulary, merges: Iterable[tuple[str, str]], **changes: object
) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **changes,
        "vocab": vocabulary.ids,
        "merges": [list(pair) for pair in merges],
    }


def _file_merges(metadata: Metadata, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    ids = vocabulary.ids
    merges = []
    for index, text in enumerate(metadata.texts(MERGES)):
        # A token may begin with a space.
        cut = text.find(" ", 1)
        left, right = text[:cut], text[cut + 1 :]
        if cut < 0 or not (left in ids and right in ids and left + right in ids):
            metadata.problems.append(
                f"element {index} of {MERGES} is {text!r:.60}, expected two tokens that make a third"
            )
            return []
        merges.append((left, right))
    return merges


def _merges_by_score(metadata: Metadata, vocabulary: Vocabulary) -> Iterable[tuple[str, str]]:
    """Pairs in the order in which SentencePiece joins them: the best piece first."""
    ids, tokens = vocabulary.ids, vocabulary.tokens
    found = (
        (-score, id, ids[text[:cut]], ids[text[cut:]])
        for id, text, score in _pieces(metadata, vocabulary)
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    )
    pairs = list(islice(found, MOST_MERGES + 1))
    if len(pairs) > MOST_MERGES:
        metadata.problems.append(f"{TOKENS} can be made of each other in too many ways")
        return []
    return ((tokens[left], tokens[right]) for _, _, left, right in sorted(pairs))


def _pieces(metadata: Metadata, vocabulary: Vocabulary) -> list[tuple[int, str, float]]:
    """Ids, texts and scores of the tokens that are made of others."""
    scores = metadata.numbers(SCORES, len(vocabulary.tokens))
    if not scores:
        return []
    pieces = [(id, text, scores[id]) for id, text, _ in vocabulary.of_kind(NORMAL)]
    longest = max((text for _, text, _ in pieces), key=len, default="")
    if len(longest) > LONGEST_PIECE:
        metadata.problems.append(
            f"{TOKENS} has a token of {len(longest)} characters, expected {LONGEST_PIECE} at most"
        )
        return []
    return pieces


def _post_processor(
    metadata: Metadata, vocabulary: Vocabulary, *, adds_first: bool
) -> dict[str, Any] | None:
    """Puts the first and the last token around texts, where the file asks for them."""
    wanted = {
        "bos": metadata.flag("tokenizer.ggml.add_bos_token", adds_first),
        "eos": metadata.flag("tokenizer.ggml.add_eos_token", False),
    }
    ids = special_ids(metadata, vocabulary)
    around = {name: ids[name] for name, is_wanted in wanted.items() if is_wanted and name in ids}
    if not around:
        return None
    texts = {name: vocabulary.tokens[id] for name, id in around.items()}

    def side(name: str, type_id: int) -> Sequence[Mapping[str, Any]]:
        return [{"SpecialToken": {"id": texts[n], "type_id": type_id}} for n in texts if n == name]

    def sequence(name: str, type_id: int) -> Sequence[Mapping[str, Any]]:
        text = {"Sequence": {"id": name, "type_id": type_id}}
        return [*side("bos", type_id), text, *side("eos", type_id)]

    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": [*sequence("A", 0), *sequence("B", 1)],
        "special_tokens": {
            texts[name]: {"id": texts[name], "ids": [id], "tokens": [texts[name]]}
            for name, id in around.items()
        },
    }


SPECIAL_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
}


def special_ids(metadata: Metadata, vocabulary: Vocabulary) -> dict[str, int]:
    """Ids of the tokens that begin and end texts, fill them up, or stand for what is unknown."""
    count = len(vocabulary.tokens)
    found = {name: metadata.token(key, count) for name, key in SPECIAL_KEYS.items()}
    return {name: id for name, id in found.items() if id is not None}
