"""Fifty conversations as transformers makes token ids of them: `python -m tests.real.conversations`.

Its own way from a GGUF file's metadata to a tokenizer and a template; nothing of ours is in it.
"""

import json
from itertools import islice, product
from pathlib import Path
from typing import Any

from benchmarks.real_model import real_model

VECTORS = Path(__file__).with_name("conversations.json")
COUNT = 50
SYSTEMS = (None, "Be brief.", "Tu réponds toujours en français.\n\nSois polie.", "  ")
TEXTS = (
    "Hello!",
    "What's 12345 + 67.890? It's 1e-7% of $3,000,000.",
    "  two  spaces,\ttabs\r\nand\n\n\nlines  ",
    "def add(a, b):\n    return a + b  # 3 spaces:   .\n",
    "日本語のテキスト と 中文\uff0c以及 한국어.",
    "Привет, как дела? Ça va très bien, merci — à demain…",
    "👩‍👩‍👧 and 🙂🏽 and e\u0301 and \u200b and ﬁ",
    "I'LL they've we'd 'Tis o'clock don't DON'T",
    '{"key": ["value", null, true], "n": -1.5e+10}',
    "العربية עברית हिन्दी ไทย",
    "a" * 70 + " " + "xyz" * 20,
    "",
)


def conversations() -> list[list[dict[str, str]]]:
    """One to five turns, with and without a system prompt, of texts that tokenizers stumble over."""
    found = []
    for index, (text, system) in enumerate(islice(product(TEXTS * 2, SYSTEMS), COUNT)):
        turns = [{"role": "system", "content": system}] if system is not None else []
        for turn in range(1 + 2 * (index % 3)):
            content = TEXTS[(TEXTS.index(text) + turn * 5) % len(TEXTS)]
            turns.append({"role": ("user", "assistant")[turn % 2], "content": content})
        found.append(turns)
    return found


def make() -> list[dict[str, Any]]:
    """Conversations with the ids of their prompts."""
    from transformers import AutoTokenizer

    file = real_model()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    cases = []
    for messages in conversations():
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        cases.append({"messages": messages, "ids": ids})
    return cases


def render() -> str:
    """Content of the file."""
    return json.dumps(make(), separators=(",", ":")) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(render())
