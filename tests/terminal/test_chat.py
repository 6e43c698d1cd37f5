"""`mlc-edge chat` as a person and as a script use it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from mlc_edge.bundle import lock_files, read_lock, write_lock

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mlc_edge", "chat"]
CAPITAL, PARIS = "What is the capital of France?", "The capital of France is Paris."
TIMEOUT_S = 60
# The embedded model's token for padding.
NEVER_WRITTEN = 0


def run(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, **options
    )


class Person:
    """Types into a terminal and reads what it shows."""

    def __init__(self, bundle: Path, home: Path, *options: str) -> None:
        # pexpect answers no questions about the cursor.
        quiet = {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        environment = {**os.environ, **quiet, "XDG_STATE_HOME": str(home)}
        self.terminal = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], str(bundle), *options],
            cwd=str(ROOT),
            env=environment,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            dimensions=(40, 120),
        )
        self.see("list")

    def type(self, line: str) -> None:
        self.wait_for_prompt()
        self.terminal.send(f"{line}\r")

    def wait_for_prompt(self) -> None:
        """The prompt of a line that is still empty: its blank is a movement of the cursor."""
        self.terminal.expect(r">\x08\x1b\[2C")

    def see(self, text: str) -> None:
        self.terminal.expect_exact(text)

    def end(self) -> int:
        self.terminal.expect(pexpect.EOF)
        self.terminal.close()
        return self.terminal.exitstatus


@pytest.fixture
def person(pocket_bundle: Path, tmp_path: Path) -> Iterator[Person]:
    person = Person(pocket_bundle, tmp_path)
    yield person
    person.terminal.close(force=True)


def test_a_script_gets_the_answer_alone(pocket_bundle: Path):
    done = run(pocket_bundle, "--prompt", CAPITAL)
    assert (done.returncode, done.stdout) == (0, f"{PARIS}\n")


def test_a_script_may_pipe_its_question(pocket_bundle: Path):
    done = run(pocket_bundle, "--prompt", "-", "--max-tokens", "3", input=CAPITAL)
    assert done.returncode == 0
    assert PARIS.startswith(done.stdout.strip())


def test_wrong_input_ends_with_one_error(pocket_bundle: Path):
    done = run(pocket_bundle / "missing", "--prompt", "Hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no folder")


def test_a_conversation_remembers_and_forgets(person: Person):
    person.type("My name is Ada.")
    person.type("What is my name?")
    person.see("Ada.")
    person.type("/stats")
    person.see("from the cache")
    person.type("/reset")
    person.see("A new conversation.")
    person.type(CAPITAL)
    person.see("Paris.")
    person.type("/exit")
    assert person.end() == 0


def test_help_lists_the_commands(person: Person):
    person.type("/what")
    for command in ("/stats", "/reset", "/help", "/exit"):
        person.see(command)


@pytest.fixture
def endless(pocket_bundle: Path, tmp_path: Path) -> Path:
    """The embedded model, whose answers have no end: its own end before anybody has read them."""
    bundle = tmp_path / "endless"
    shutil.copytree(pocket_bundle, bundle)
    chat, generation = (
        bundle / name for name in ("mlc-chat-config.json", "generation_config.json")
    )
    content = json.loads(chat.read_text())
    content["conv_template"]["stop_token_ids"] = content["eos_token_id"] = [NEVER_WRITTEN]
    chat.write_text(json.dumps(content))
    generation.write_text(json.dumps({"do_sample": False, "eos_token_id": [NEVER_WRITTEN]}))
    write_lock(bundle, replace(read_lock(bundle), files=lock_files(bundle)))
    return bundle


def test_ctrl_c_stops_the_answer_and_not_the_program(endless: Path, tmp_path: Path):
    person = Person(endless, tmp_path)
    person.type("Tell me a story.")
    person.see("Once")
    person.terminal.kill(signal.SIGINT)
    person.see("(stopped)")
    person.type(CAPITAL)
    person.see("Paris.")
    person.wait_for_prompt()
    person.terminal.sendeof()
    assert person.end() == 0


def test_earlier_questions_come_back(pocket_bundle: Path, tmp_path: Path):
    first = Person(pocket_bundle, tmp_path)
    first.type(CAPITAL)
    first.see("Paris.")
    first.type("/exit")
    assert first.end() == 0
    second = Person(pocket_bundle, tmp_path)
    second.wait_for_prompt()
    second.terminal.send("\x1b[A\x1b[A")
    second.see("capital of France?")
    second.terminal.send("\r")
    second.see("Paris.")
    second.terminal.close(force=True)
