"""`mlc-edge update`: whatever happens meanwhile, DIR/current names a model that works."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_edge.bundle import LOCK_NAME
from tests.build.conftest import ROOT
from tests.devices.conftest import Variant, relock
from tests.devices.service import service
from tests.devices.updating import Answers, kill_at, layout, linked, update, update_command

# The command, which tells on stderr what it forces to the disk and what it renames.
WATCHED = """
import os, sys
from mlc_edge.cli import main
def say(*words): print(*words, file=sys.stderr)
def fsync(handle, real=os.fsync):
    real(handle)
    say("sync", os.readlink(f"/proc/self/fd/{handle}"))
os.fsync = fsync
sys.addaudithook(lambda event, args: event == "os.rename" and say("rename", *args[:2]))
main()
"""
STEPS = [
    "verify the bundle",
    "copy cpu/params_shard_0.bin",
    "copy cpu/tensor-cache.json",
    "copy generation_config.json",
    "copy lib/native.so",
    "copy mlc-chat-config.json",
    "copy tokenizer.json",
    "copy tokenizer_config.json",
    "copy mlc-lock.json",
    "verify the copy",
    "let it answer",
    "name it 3-third",
    "link previous to 2-second",
    "link current to 3-third",
    "remove 1-first",
]
BACK = ["verify 1-first", "let it answer", "link current to 1-first", "link previous to 2-second"]


def test_another_model_is_used_and_the_one_before_kept(
    models: Path, variant: Variant, answers: Answers
) -> None:
    done = update(variant("third"), "--dir", models)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*STEPS, f"{models / 'current'} is 3-third now"]
    assert layout(models) == linked("3-third", "2-second")
    assert "42" in answers(models / "current")


@pytest.mark.parametrize("step", STEPS)
def test_a_power_cut_leaves_a_model_and_the_update_can_be_repeated(
    step: str, models: Path, variant: Variant, answers: Answers
) -> None:
    kill_at(step, variant("third"), "--dir", models)
    assert (models / "current").readlink().name in ("2-second", "3-third")
    assert "42" in answers(models / "current")
    again = update(variant("third"), "--dir", models)
    assert again.returncode == 0, again.stderr
    assert layout(models) == linked("3-third", "2-second")
    assert "42" in answers(models / "current")


def test_all_is_on_the_disk_before_the_link_names_it(models: Path, variant: Variant) -> None:
    """What a killed process can't show, as the kernel writes for it: a power cut takes that, too."""
    command = [sys.executable, "-c", WATCHED, "update", variant("third"), "--dir", models]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    events = done.stderr.splitlines()
    named = events.index("rename .incoming 3-third")
    linked_at = events.index("rename .link current")
    written = [".incoming", *(f".incoming/{path}" for path in contents(models / "3-third"))]
    assert {f"sync {models / path}" for path in written} <= set(events[:named])
    assert f"sync {models}" in events[named:linked_at]
    assert f"sync {models}" in events[linked_at:]


def contents(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def test_rollback_there_and_back(models: Path, answers: Answers) -> None:
    done = update("--rollback", "--dir", models)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == BACK
    assert layout(models) == linked("1-first", "2-second")
    assert "42" in answers(models / "current")
    assert update("--rollback", "--dir", models).returncode == 0
    assert layout(models) == linked("2-second", "1-first")


@pytest.mark.parametrize("step", BACK)
def test_a_power_cut_while_rolling_back(step: str, models: Path, answers: Answers) -> None:
    kill_at(step, "--rollback", "--dir", models)
    assert (models / "current").readlink().name in ("1-first", "2-second")
    assert "42" in answers(models / "current")


def test_a_damaged_bundle_is_refused(models: Path, variant: Variant, tmp_path: Path) -> None:
    damaged = shutil.copytree(variant("third"), tmp_path / "damaged")
    weights = damaged / "cpu/params_shard_0.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    done = update(damaged, "--dir", models)
    assert done.returncode == 2
    assert "cpu/params_shard_0.bin has another SHA-256" in done.stderr
    assert layout(models) == linked("2-second", "1-first")


def test_a_bundle_without_one_of_its_files_is_refused(
    models: Path, variant: Variant, tmp_path: Path
) -> None:
    partial = shutil.copytree(variant("third"), tmp_path / "partial")
    (partial / "tokenizer.json").unlink()
    done = update(partial, "--dir", models)
    assert done.returncode == 2
    assert "tokenizer.json" in done.stderr and "Traceback" not in done.stderr
    assert layout(models) == linked("2-second", "1-first")


@pytest.mark.parametrize("place", ["path", "target", "feature"])
def test_a_lock_with_half_a_character_is_refused(
    models: Path, variant: Variant, tmp_path: Path, place: str
) -> None:
    odd = shutil.copytree(variant("third"), tmp_path / "odd")
    lock = json.loads((odd / "mlc-lock.json").read_text())
    if place == "path":
        lock["files"][0]["path"] = "\ud800"
    elif place == "target":
        lock["targets"]["\ud800"] = lock["targets"].pop("native")
    else:
        lock["targets"]["native"]["needs"]["features"].append("\ud800")
    (odd / "mlc-lock.json").write_text(json.dumps(lock))
    done = update(odd, "--dir", models)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and r"\ud800" in line
    assert layout(models) == linked("2-second", "1-first")


def test_a_model_that_cannot_answer_is_refused(
    models: Path, variant: Variant, tmp_path: Path
) -> None:
    broken = shutil.copytree(variant("third"), tmp_path / "broken")
    (broken / "lib/native.so").write_bytes(b"no library")
    relock(broken, "broken")
    done = update(broken, "--dir", models)
    assert done.returncode == 2
    assert "fails its self-check" in done.stderr
    assert layout(models) == linked("2-second", "1-first")


def test_a_damaged_model_in_use_is_replaced_by_the_same_bundle(
    models: Path, variant: Variant, answers: Answers
) -> None:
    (models / "2-second/tokenizer.json").unlink()
    done = update(variant("second"), "--dir", models)
    assert done.returncode == 0, done.stderr
    assert (models / "current").readlink().name == "3-second"
    assert "42" in answers(models / "current")


def test_one_update_at_a_time(models: Path, variant: Variant) -> None:
    with subprocess.Popen(
        update_command(variant("third"), "--dir", models),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == f"{STEPS[0]}\n"
        # It goes on once the other one has ended.
        running.send_signal(signal.SIGSTOP)
        refused = update(variant("first"), "--dir", models)
        running.send_signal(signal.SIGCONT)
        assert refused.returncode == 2
        assert "another update" in refused.stderr
        running.stdout.read()
    assert running.returncode == 0
    assert layout(models) == linked("3-third", "2-second")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "BUNDLE or --rollback"),
        (("nowhere",), "not a bundle"),
        (("--rollback",), "no model before this one"),
    ],
)
def test_wrong_use_is_explained(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = update(*arguments, "--dir", tmp_path / "models")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_the_daemon_is_restarted_with_the_new_model(
    models: Path, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path / "service", models) as unit:
        monkeypatch.setenv("PATH", unit.search_path)
        unit.start()
        assert unit.model() == "second"
        done = update(variant("third"), "--dir", models)
        assert done.returncode == 0, done.stderr
        assert "restart mlc-edge" in done.stdout
        assert unit.model() == "third"


def test_a_daemon_that_fails_with_the_new_model_gets_the_old_one_back(
    models: Path, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-check passes, but the daemon is configured for a library that the bundle lacks."""
    other = shutil.copytree(variant("third"), tmp_path / "other")
    lock_file = other / LOCK_NAME
    lock_file.write_text(lock_file.read_text().replace('"native": {', '"x86-64": {'))
    with service(tmp_path / "service", models, "--target", "native") as unit:
        monkeypatch.setenv("PATH", unit.search_path)
        unit.start()
        done = update(other, "--dir", models)
        assert done.returncode == 2
        assert "2-second serves again" in done.stderr
        assert unit.model() == "second"
    assert layout(models) == linked("2-second", "1-first")
