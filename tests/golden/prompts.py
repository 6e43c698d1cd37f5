"""Messages to token ids, by transformers."""

from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.",
    "Café, naïve, Zürich: words with accents are words too. It's 12:45 o'clock; 3.14159 is pi.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))",
    "日本語のテキスト と 中文 и русский текст.",
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BRACKETS = """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system is defined %}
            {{- '[INST] ' + system + '\n\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- else %}
        {{- ' ' + message['content'].strip() + eos_token }}
    {%- endif %}
{%- endfor %}"""
HEADERS = """{% for message in messages %}
{% set header = '<|start|>' + message['role'] + '<|end|>\n\n' %}
{% set content = header + message['content'] | trim + '<|stop|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{ content }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONVERSATIONS = [
    [{"role": "user", "content": "Hello!"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What's 12345 + 1?  "},
        {"role": "assistant", "content": " It's 12346.\n"},
        {"role": "user", "content": "Café in Zürich?\n\n  Two  spaces."},
    ],
    [{"role": "user", "content": "日本語 🙂👩‍👩‍👧 и\ttabs [INST]"}],
    [{"role": "user", "content": ""}],
]
# Each begins an answer to a conversation of CONVERSATIONS.
BEGUN = ["It's", "The quick brown f", "def add(a, b):\n    return", "Café, naïve 🙂 日"]


def _train(tokenizer: Tokenizer, special: list[str], size: int) -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet() if tokenizer.decoder else []
    tokens = [AddedToken(token, special=True, normalized=False) for token in special]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)


def _byte_level(*, words: str | None, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    tokenizer.pre_tokenizer = byte_level
    if words:
        split = pre_tokenizers.Split(Regex(words), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, special, 400)
    return tokenizer


def _sentencepiece() -> Tokenizer:
    """As in Llama 2: spaces become ▁, one in front, and unknown characters their bytes."""
    specials = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    _train(trained, [*specials, *(f"<0x{byte:02X}>" for byte in range(256))], 500)
    state = json_of(trained)
    state["model"].update(byte_fallback=True, fuse_unk=True)
    # The characters that only the corpus' last line has: they must come out as bytes.
    unknown = set(CORPUS[-1]) - set("".join(CORPUS[:-1])) - set("▁")
    vocabulary = {t: i for t, i in state["model"]["vocab"].items() if not set(t) & unknown}
    state["model"]["vocab"] = {
        t: n for n, t in enumerate(sorted(vocabulary, key=lambda t: vocabulary[t]))
    }
    state["model"]["merges"] = [
        pair for pair in state["model"]["merges"] if not set("".join(pair)) & unknown
    ]
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
    tokenizer = Tokenizer.from_str(json_text(state))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def _begun(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """With a post-processor that puts a token before each text, as Llama's have it."""
    special = [(token, tokenizer.token_to_id(token))]
    template = processors.TemplateProcessing(single=f"{token} $A", special_tokens=special)
    offsets = processors.ByteLevel(trim_offsets=False)
    tokenizer.post_processor = processors.Sequence([offsets, template])
    return tokenizer


def json_of(tokenizer: Tokenizer) -> dict[str, Any]:
    import json

    state: dict[str, Any] = json.loads(tokenizer.to_str())
    return state


def json_text(state: dict[str, Any]) -> str:
    import json

    return json.dumps(state)


def tokenizers() -> dict[str, dict[str, Any]]:
    """Name to tokenizer.json and tokenizer_config.json."""
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    headers = ["<|begin|>", "<|start|>", "<|end|>", "<|stop|>"]
    return {
        "chatml": {
            "tokenizer": json_of(_byte_level(words=None, special=chatml)),
            "config": {"chat_template": CHATML, "eos_token": "<|im_end|>"},
        },
        "headers": {
            "tokenizer": json_of(_begun(_byte_level(words=WORDS, special=headers), "<|begin|>")),
            "config": {
                "chat_template": HEADERS,
                "bos_token": {"content": "<|begin|>"},
                "eos_token": "<|stop|>",
            },
        },
        "brackets": {
            "tokenizer": json_of(_begun(_sentencepiece(), "<s>")),
            "config": {"chat_template": BRACKETS, "bos_token": "<s>", "eos_token": "</s>"},
        },
    }


def _continued(
    reference: PreTrainedTokenizerFast, messages: list[dict[str, str]], begun: str
) -> list[int]:
    answer = {"role": "assistant", "content": begun}
    prompt = reference.apply_chat_template(
        [*messages, answer], tokenize=False, continue_final_message=True
    )
    ids: list[int] = reference.encode(prompt, add_special_tokens=False)
    return ids


def make() -> dict[str, Any]:
    found = tokenizers()
    cases, continued = [], []
    for name, files in found.items():
        config = files["config"]
        reference = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json_text(files["tokenizer"])),
            chat_template=config["chat_template"],
            bos_token=AddedToken(config["bos_token"]["content"], special=True)
            if isinstance(config.get("bos_token"), dict)
            else config.get("bos_token"),
            eos_token=config["eos_token"],
        )
        for messages, begun in zip(CONVERSATIONS, BEGUN, strict=True):
            ids = _continued(reference, messages, begun)
            continued.append({"tokenizer": name, "messages": messages, "begun": begun, "ids": ids})
        for messages in CONVERSATIONS:
            prompt = reference.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            ids = reference.encode(prompt, add_special_tokens=False)
            plain = messages[-1]["content"]
            plain_ids = reference.encode(plain, add_special_tokens=False)
            cases.append(
                {
                    "tokenizer": name,
                    "messages": messages,
                    "ids": ids,
                    "text": plain,
                    "text_ids": plain_ids,
                    # Of a completion's prompt, which no template wrote.
                    "prompt_ids": reference.encode(plain),
                    "decoded": reference.decode(plain_ids, skip_special_tokens=True),
                }
            )
    return {"tokenizers": found, "cases": cases, "continued": continued}
