"""What turns messages into tokens and back, from a GGUF file's metadata."""

from typing import Any

from webbuild.gguf.metadata import Metadata
from webbuild.gguf.tokenizer import ENDS, SPECIAL_KEYS, Vocabulary, special_ids, tokenizer_json
from webbuild.model_folder import ChatFiles

TEMPLATE = "tokenizer.chat_template"
# Besides eos: the ends of a turn, and of a message that calls a tool.
END_KEYS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
TOP_K = "general.sampling.top_k"
SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def chat_files(metadata: Metadata) -> ChatFiles:
    """Tokenizer, template and generation defaults; what is wrong is noted in `metadata`."""
    vocabulary = Vocabulary(metadata)
    special = special_ids(metadata, vocabulary)
    template = metadata.text(TEMPLATE, "")
    if not template:
        metadata.problems.append(
            f"no chat template: there is no {TEMPLATE}. Use the file of a chat or instruct model"
        )
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": vocabulary.tokens[id] for name, id in special.items()},
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata.integer("llama.context_length", 0),
        "chat_template": template,
    }
    return ChatFiles(
        tokenizer_json(metadata, vocabulary), config, _generation(metadata, vocabulary, special)
    )


def _generation(
    metadata: Metadata, vocabulary: Vocabulary, special: dict[str, int]
) -> dict[str, Any]:
    ends = [metadata.token(key, len(vocabulary.tokens)) for key in END_KEYS]
    ends += [vocabulary.ids.get(text) for text in ENDS]
    others = sorted({id for id in ends if id is not None} - {special.get("eos")})
    first = [special["eos"]] if "eos" in special else []
    ids = {f"{name}_token_id": id for name, id in special.items() if name in ("bos", "pad")}
    sampling = {name: metadata.real(key) for key, name in SAMPLING.items() if metadata.has(key)}
    if metadata.has(TOP_K):
        sampling["top_k"] = metadata.integer(TOP_K)
    if not first + others:
        metadata.problems.append(
            f"no token ends an answer: there is no {SPECIAL_KEYS['eos']}, and no token that is known for it"
        )
    return {**ids, "eos_token_id": first + others, **sampling}
