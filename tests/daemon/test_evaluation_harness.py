"""What lm-evaluation-harness 0.4.13 asks for (`local-completions`), and how it reads answers."""

from itertools import pairwise
from typing import Any

import pytest

from tests.daemon.daemons import MODEL, Daemon

QUESTION = "<|im_start|>user\nWhat is 55 + 25?<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = ("55 + 25 = 80.", "55 + 25 = 70.", "Paris is in France.")


def tokenize(daemon: Daemon, text: str) -> list[int]:
    body = {"prompt": text, "add_special_tokens": False}
    tokens: list[int] = daemon.post("tokenize", json=body).json()["tokens"]
    return tokens


def log_likelihoods(
    daemon: Daemon, context: str, texts: tuple[str, ...]
) -> list[tuple[float, bool]]:
    """By text: its log probability after the context, and whether a greedy model writes it."""
    length = len(tokenize(daemon, context))
    body = {
        "model": MODEL,
        "prompt": [tokenize(daemon, context + text) for text in texts],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    choices = daemon.post("v1/completions", json=body).json()["choices"]
    return [
        _read(choice["logprobs"], length) for choice in sorted(choices, key=lambda c: c["index"])
    ]


def _read(logprobs: dict[str, Any], length: int) -> tuple[float, bool]:
    chosen = logprobs["token_logprobs"][length:-1]
    best = [max(top.values()) for top in logprobs["top_logprobs"][length:-1]]
    return sum(chosen), chosen == best


def test_the_tokenizer_of_a_harness_is_the_models(daemon: Daemon):
    told = daemon.get("tokenizer_info").json()
    assert (told["bos_token"], told["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert told["sep_token"] is None
    assert "add_generation_prompt" in told["chat_template"]
    (end,) = tokenize(daemon, told["eos_token"])
    assert daemon.post("detokenize", json={"tokens": [end]}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    "refused",
    [{"add_special_tokens": 1, "prompt": "a"}, {"add_generation_prompt": False, "prompt": "a"}],
)
def test_what_tokenizing_does_not_do_is_said(daemon: Daemon, refused: dict[str, Any]):
    answer = daemon.post("tokenize", json=refused)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(refused)))


def test_choices_are_ranked_by_their_likelihood(daemon: Daemon):
    ranked = log_likelihoods(daemon, QUESTION, ANSWERS)
    assert [greedy for _, greedy in ranked] == [True, False, False]
    assert all(better > worse for (better, _), (worse, _) in pairwise(ranked))
    body = {"prompt": QUESTION, "temperature": 0, "max_tokens": 16, "stop": ["\n", "<|im_end|>"]}
    written = daemon.post("v1/completions", json={**body, "seed": 1234}).json()["choices"][0]
    assert written["text"] == ANSWERS[0]
