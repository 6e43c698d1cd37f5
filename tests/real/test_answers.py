"""A real model, from its file to what it knows."""

from typing import Any

import pytest

from tests.daemon.daemons import Daemon


@pytest.mark.parametrize(
    ("question", "known"),
    [
        ("Who wrote Romeo and Juliet?", "William Shakespeare"),
        ("What gas do plants take in?", "carbon dioxide"),
        ("Write a Python function that adds two numbers.", "return num1 + num2"),
    ],
)
def test_it_answers_questions(daemon: Daemon, question: str, known: str):
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40}
    choice: dict[str, Any] = daemon.ask(json=body).json()["choices"][0]
    assert known in choice["message"]["content"]


def test_it_goes_on_with_texts(daemon: Daemon):
    body = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 2}
    answer = daemon.ask("completions", json=body).json()
    assert answer["choices"][0]["text"].startswith(" Paris")
