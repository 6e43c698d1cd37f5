"""What a bundle that nobody knows says to a terminal is seen, not obeyed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from mlc_edge.bundle import LOCK_NAME, lock_files, read_lock, write_lock
from mlc_edge.visible import visible
from tests.terminal.test_chat import CAPITAL, COMMAND, PARIS, ROOT, Person, run

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
    lock.write_text(lock.read_text().replace('"native": {', '"[red]odd[/]": {'))
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
    assert "[red]odd[/]" in person.terminal.before
    person.type(CAPITAL)
    person.see("^[]0;title^G^[[2J<U+202E><U+2066>^M<U+009B>31m^H^?")


@pytest.mark.parametrize("name", ["\\u009b31mred", "\\u202eder", "a\\nb", "\\ud800"])
def test_names_that_a_terminal_would_obey_are_refused(hostile: Path, tmp_path: Path, name: str):
    bundle = shutil.copytree(hostile, tmp_path / "bundle")
    sound = (hostile / LOCK_NAME).read_text()
    for part in ('"[red]odd[/]"', '"cpu/params_shard_0.bin"'):
        assert part in sound
        (bundle / LOCK_NAME).write_text(sound.replace(part, f'"{name}"'))
        done = run(bundle, "--prompt", "Hello")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and name.replace("u009b", "x9b") in line


@pytest.mark.parametrize("command", ["run", "chat", "build", "web", "bench"])
def test_errors_show_them(command: str, tmp_path: Path):
    missing = tmp_path / "\x1b[31mmissing\u202e"
    output = ["--output", str(tmp_path / "bundle")] if command == "build" else []
    done = subprocess.run(
        [*COMMAND[:-1], command, str(missing), *output], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2, done.stderr
    assert "^[[31mmissing<U+202E>" in done.stderr
    assert not OBEYED.search(done.stderr)


def test_all_other_text_stays():
    kept = "a\tb\nc ~é\u00a0\u05e9\u05dc\u200f\u0644\u200d日本 👩\u200d🚀\u2028"
    assert visible(kept) == kept
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    assert not OBEYED.search(visible(everything))
    assert len(visible(everything)) - len(everything) == 31 * 1 + 32 * 7 + 9 * 7
