"""What a bundle that nobody knows says to a terminal is seen, not obeyed."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edge.terminal.control import visible
from mlc_edge.bundle import LOCK_NAME, lock_files, read_lock, write_lock
from tests.terminal.test_chat import CAPITAL, PARIS, Person, run

# What the tokens of the answer stand for; a sequence may begin in one and end in another.
SAID = ("\x1b]0;title\x07", "\x1b", "[2J", "\u202e\u2066\r\x9b31m\x08\x7f", "\tlast\n\x00")
SHOWN = "^[]0;title^G^[[2J<U+202E><U+2066>^M<U+009B>31m^H^?\tlast\n^@"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def hostile(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with other words in its vocabulary, and a library of an odd name."""
    bundle = tmp_path_factory.mktemp("hostile") / "bundle"
    shutil.copytree(pocket_bundle, bundle)
    file = bundle / "tokenizer.json"
    ids = Tokenizer.from_file(str(file)).encode(PARIS).ids
    content = json.loads(file.read_text())
    content["added_tokens"] += [
        {**content["added_tokens"][0], "id": id, "content": said, "special": False}
        for id, said in zip(ids[1:], SAID, strict=False)
    ]
    file.write_text(json.dumps(content))
    write_lock(bundle, replace(read_lock(bundle), files=lock_files(bundle)))
    lock = bundle / LOCK_NAME
    lock.write_text(lock.read_text().replace('"native": {', '"\\u001b[31mred[/]": {'))
    return bundle


@pytest.fixture
def person(hostile: Path, tmp_path: Path) -> Iterator[Person]:
    person = Person(hostile, tmp_path, "--temperature", "0")
    yield person
    person.terminal.close(force=True)


def test_a_script_gets_no_control_characters(hostile: Path):
    done = run(hostile, "--prompt", CAPITAL, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert SHOWN in done.stdout
    assert not OBEYED.search(done.stdout)


def test_a_person_sees_them(person: Person):
    assert "^[[31mred[/]" in person.terminal.before
    person.type(CAPITAL)
    person.see("^[]0;title^G^[[2J<U+202E><U+2066>^M<U+009B>31m^H^?")


def test_errors_show_them(tmp_path: Path):
    done = run(tmp_path / "\x1b[31mmissing\u202e", "--prompt", "Hello")
    assert done.returncode == 2
    assert "^[[31mmissing<U+202E>" in done.stderr
    assert not OBEYED.search(done.stderr)


def test_all_other_text_stays():
    kept = "a\tb\nc ~é\u00a0\u05e9\u05dc\u200f\u0644\u200d日本 👩\u200d🚀\u2028"
    assert visible(kept) == kept
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    assert not OBEYED.search(visible(everything))
    assert len(visible(everything)) - len(everything) == 31 * 1 + 32 * 7 + 9 * 7
