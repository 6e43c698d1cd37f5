"""How answers are drawn in the terminal where the model's files don't say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import MLCEngine
from mlc_edge.bundle import lock_files, read_lock, write_lock
from tests.terminal.test_chat import Person, run

STORY = "Tell me a story."
CHAT = {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05}
SEED = {"seed": 3, "max_tokens": 24}
FLAGS = ("--seed", SEED["seed"], "--max-tokens", SEED["max_tokens"])


@pytest.fixture(scope="module")
def silent(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, whose author says nothing of sampling."""
    bundle = tmp_path_factory.mktemp("silent") / "bundle"
    shutil.copytree(pocket_bundle, bundle)
    for name, changes in (
        ("generation_config.json", {"do_sample": None}),
        ("mlc-chat-config.json", {"temperature": 1.0}),
    ):
        content = json.loads((bundle / name).read_text())
        (bundle / name).write_text(json.dumps({**content, **changes}))
    write_lock(bundle, replace(read_lock(bundle), files=lock_files(bundle)))
    return bundle


def test_answers_are_drawn_as_for_chats_and_the_apis_as_openais(silent: Path):
    with MLCEngine(silent) as engine:

        def drawn(**sampling: Any) -> str:
            messages = [{"role": "user", "content": STORY}]
            answer = engine.chat.completions.create(messages=messages, **SEED, **sampling)
            return f"{answer.choices[0].message.content}\n"

        as_asked = {"temperature": 1, "top_p": 1, "min_p": 0}
        texts = [drawn(**sampling) for sampling in (CHAT, {**CHAT, "top_p": 0.05}, as_asked, {})]
    assert texts[2] == texts[3] and len(set(texts)) == 3
    plain, changed = (
        run(silent, "--prompt", STORY, *FLAGS, *more) for more in ((), ("--top-p", 0.05))
    )
    assert [done.stdout for done in (plain, changed)] == texts[:2]
    assert "temperature 0.7, top-p 0.9, min-p 0.05 (for chats" in " ".join(plain.stderr.split())


def test_a_person_is_told(silent: Path, pocket_bundle: Path, tmp_path: Path):
    person = Person(silent, tmp_path, "--min-p", "0.1")
    person.see("temperature 0.7, top-p 0.9 (for chats: its files name none); min-p 0.1 (asked)")
    person.type("/help")
    person.see("temperature 0.7, top-p 0.9 (for chats: its files name none); min-p 0.1")
    person.terminal.close(force=True)
    person = Person(pocket_bundle, tmp_path)
    person.see("temperature 0, top-p 1, min-p 0 (by the model's files)")
    person.terminal.close(force=True)
