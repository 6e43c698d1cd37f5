"""Run with the interpreter that has llama-cpp-python: its greedy answers, by JSON.

Arguments: a GGUF file, how many tokens an answer has at most, and where to write; conversations come by
stdin. Template, token ids and logits are llama.cpp's own. With the argument `requantize` instead of a
number, the file is written anew with weights in float32.
"""

import ctypes
import json
import sys
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

CONTEXT = 1024
F32 = 0
# More wait for each other on a busy machine.
THREADS = 1


def answers(file: str, count: int, conversations: list[Any]) -> list[dict[str, Any]]:
    """For each conversation: its prompt's ids, the answer's, each one's lead over the next, their bytes."""
    model = llama_cpp.Llama(
        file, n_ctx=CONTEXT, n_threads=THREADS, type_k=F32, type_v=F32, verbose=False
    )
    template = Jinja2ChatFormatter(
        model.metadata["tokenizer.chat_template"], eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    return [_answer(model, template(messages=turns).prompt, count) for turns in conversations]


def _answer(model: llama_cpp.Llama, prompt: str, count: int) -> dict[str, Any]:
    ids = model.tokenize(prompt.encode(), add_bos=False, special=True)
    model.reset()
    model.eval(ids)
    tokens: list[int] = []
    leads: list[float] = []
    while len(tokens) < count and model.token_eos() not in tokens:
        pointer = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        logits = np.ctypeslib.as_array(pointer, (model.n_vocab(),))
        second, first = np.argpartition(logits, -2)[-2:]
        tokens.append(int(first))
        leads.append(float(logits[first] - logits[second]))
        model.eval(tokens[-1:])
    pieces = [list(model.detokenize([token])) for token in tokens]
    return {"prompt": ids, "tokens": tokens, "leads": leads, "pieces": pieces}


def requantize(file: str, output: str) -> None:
    """Write the same values in float32."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize, options.nthread = F32, True, THREADS
    failed = llama_cpp.llama_model_quantize(file.encode(), output.encode(), ctypes.byref(options))
    assert failed == 0, failed


if __name__ == "__main__":
    given, wanted, written = sys.argv[1:]
    if wanted == "requantize":
        requantize(given, written)
    else:
        found = answers(given, int(wanted), json.load(sys.stdin))
        with open(written, "w") as output:
            json.dump(found, output)
