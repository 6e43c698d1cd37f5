"""The runner of planted faults on a toy checkout, and the lists against the real sources."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, main
from tests.mutants.lists import FOLDER, read_areas

SOURCE = "def add(a, b):\n    return a + b\n\n\ndef name():\n    return 'toy'\n"
TESTS = "from toy import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
NOTICED = """
[[mutant]]
file = "toy.py"
old = '''a + b'''
new = '''a - b'''
why = "subtracts"
"""
UNNOTICED = """
[[mutant]]
file = "toy.py"
old = '''toy\''''
new = '''other\''''
why = "wrong name"
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout; scratch folders go beside it."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    root = tmp_path / "toy"
    (root / FOLDER).mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "toy.py").write_text(SOURCE)
    (root / "test_toy.py").write_text(TESTS)
    return root


def write_list(
    root: Path, *mutants: str, head: str = 'tests = ["test_toy.py"]', name="toy"
) -> None:
    (root / FOLDER / f"{name}.toml").write_text("\n".join((head, *mutants)))


def left_behind(root: Path) -> list[str]:
    return os.listdir(root.parent / "scratch")


def test_lists_fit_the_sources():
    assert read_areas(ROOT, ())


def test_tells_noticed_faults_from_others(toy: Path, capsys: pytest.CaptureFixture[str]):
    write_list(toy, NOTICED, UNNOTICED)
    assert main(["--json", str(toy / "results.json"), "--jobs", "2"], root=toy) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["noticed", "UNNOTICED"]
    assert lines[-2].split() == ["toy", "2", "1", "50%"]
    first, second = json.loads((toy / "results.json").read_text())["toy"]
    assert first["noticed"] and first["by"] == "test_toy.py::test_add"
    assert not second["noticed"] and second["mutant"]["why"] == "wrong name"
    assert (toy / "toy.py").read_text() == SOURCE and left_behind(toy) == []


def test_is_content_when_all_is_noticed(toy: Path):
    write_list(toy, NOTICED, UNNOTICED)
    assert main(["toy", "--only", "SUBTRACTS"], root=toy) == 0


def test_a_fault_may_have_tests_of_its_own(toy: Path):
    (toy / "test_name.py").write_text(
        "import toy\n\ndef test_name():\n    assert toy.name()[0] == 't'\n"
    )
    write_list(toy, NOTICED, UNNOTICED + 'tests = ["test_name.py::test_name"]')
    assert main([], root=toy) == 0


def test_a_hanging_test_notices(toy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.mutants.runner.LIMIT_EXTRA_S", 0)
    write_list(toy, NOTICED.replace("a - b", "__import__('threading').Event().wait()"))
    assert main(["--json", str(toy / "results.json")], root=toy) == 0
    (result,) = json.loads((toy / "results.json").read_text())["toy"]
    assert result["by"] == "the time limit"


def test_builds_with_each_fault(toy: Path, capsys: pytest.CaptureFixture[str]):
    """The tests see what the build makes of the source; what can't be built counts for nothing."""
    (toy / "build.py").write_text("import shutil, toy; shutil.copy(toy.__file__, 'built.py')")
    (toy / "test_toy.py").write_text(TESTS.replace("toy", "built"))
    head = f'tests = ["test_toy.py"]\nbuild = "{sys.executable} build.py"'
    write_list(toy, NOTICED, NOTICED.replace("a - b", "a -"), head=head)
    assert main([], root=toy) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["noticed", "UNNOTICED"]
    assert "[the build fails" in lines[2]


@pytest.mark.parametrize(
    ("mutant", "problem"),
    [
        (NOTICED.replace("a + b", "a * b"), "(subtracts): `old` is 0 times in toy.py"),
        (NOTICED.replace("a + b", "def"), "`old` is 2 times"),
        (NOTICED.replace("a - b", "a + b"), "`new` is `old`"),
        (NOTICED.replace("toy.py", "gone.py"), "gone.py does not exist"),
        (NOTICED.replace("why", "because"), "`because` is unknown, `why` is missing"),
        (NOTICED + 'tests = ["test_gone.py"]', "['test_gone.py'] do not exist"),
        ("mutant = 3", "`mutant` must be a list"),
        ("[[mutant", "toy.toml: "),
    ],
)
def test_names_what_does_not_fit(
    toy: Path, capsys: pytest.CaptureFixture[str], mutant: str, problem: str
):
    write_list(toy, mutant)
    write_list(toy, NOTICED.replace("a + b", "gone"), name="second")
    assert main([], root=toy) == 2
    problems = capsys.readouterr().err
    assert problem in problems and "second.toml, fault 1" in problems


def test_wants_green_tests_first(toy: Path, capsys: pytest.CaptureFixture[str]):
    write_list(toy, NOTICED)
    (toy / "test_toy.py").write_text(TESTS.replace("5", "6"))
    assert main([], root=toy) == 2
    error = capsys.readouterr().err
    assert "toy: the tests fail without a fault" in error and "assert 5 == 6" in error
    assert left_behind(toy) == []


def test_unknown_area(toy: Path, capsys: pytest.CaptureFixture[str]):
    write_list(toy, NOTICED)
    assert main(["tooy"], root=toy) == 2
    assert "tooy.toml does not exist: there is toy" in capsys.readouterr().err


def test_interrupting_leaves_nothing_behind(toy: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "started")
    (toy / "test_toy.py").write_text(
        "import subprocess, threading\n\n\n"
        "def test_add():\n"
        f"    subprocess.Popen(['cat', '{tmp_path}/never'], start_new_session=True)\n"
        f"    open('{tmp_path}/started', 'w').close()\n"
        "    threading.Event().wait()\n"
    )
    os.mkfifo(tmp_path / "never")
    write_list(toy, NOTICED)
    # A shell's background jobs ignore SIGINT, and so does what they start.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pathlib import Path; from tests.mutants.__main__ import main;"
        "sys.exit(main([], root=Path(sys.argv[1])))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    command = [sys.executable, "-c", script, str(toy)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        (tmp_path / "started").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert left_behind(toy) == []
    with pytest.raises(OSError, match="No such device"):  # nobody reads any more
        os.open(tmp_path / "never", os.O_WRONLY | os.O_NONBLOCK)
