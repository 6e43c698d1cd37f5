"""`mlc-edge cache`: what was compiled here is listed, and removed once it is of no use to anybody."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlc_edge.bundle import verify
from tests.models.conftest import ROOT, Machine

DAY_S = 86400
DEADLINE_S = 120
USE = """
import sys
from mlc_edge.models import resolve_model
print(resolve_model(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Cache:
    """A machine that has compiled one checkpoint."""

    machine: Machine
    checkpoint: Path
    bundle: Path

    @property
    def bundles(self) -> Path:
        return self.machine.folder / "compiled/bundles"

    @property
    def entry(self) -> Path:
        return self.bundle.parent

    def command(self, *words: object) -> str:
        """What `mlc-edge cache` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "mlc_edge", "cache", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.machine.environment, "COLUMNS": "120"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def add(self, key: str) -> Path:
        """Another entry, of a version that noted nothing."""
        folder = shutil.copytree(self.entry, self.bundles / key)
        (folder / "compiled-from.json").unlink()
        return folder


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    machine = Machine(tmp_path_factory.mktemp("machine"), "http://127.0.0.1:9")
    folder = shutil.copytree(checkpoint, machine.folder / "My model")
    return Cache(machine, folder, Path(machine.resolve(folder)["bundle"]))


@pytest.fixture
def cache(compiled: Cache, tmp_path: Path) -> Cache:
    """The same machine with a copy of its cache: the key has the checkpoint's path."""
    machine = Machine(tmp_path, "http://127.0.0.1:9")
    shutil.copytree(compiled.machine.folder / "compiled", tmp_path / "compiled")
    inside = compiled.bundle.relative_to(compiled.machine.folder)
    return Cache(machine, compiled.checkpoint, tmp_path / inside)


def test_the_list_says_what_is_there_and_of_use(cache: Cache):
    cache.add("0123456789abcdef")
    shown = cache.command()
    size = sum(path.stat().st_size for path in cache.entry.rglob("*") if path.is_file()) / (1 << 20)
    today = time.strftime("%Y-%m-%d")
    (row,) = re.findall(r"│ My-model .*", shown)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "My-model",
        "native",
        f"{size:,.1f}",
        *re.findall(rf"{today} \d\d:\d\d", row),
        "yes",
    ]
    (old,) = re.findall(r"│ 0123456789abcdef .*", shown)
    assert "unknown" in old and "no" in old
    assert str(cache.bundles) in shown


def test_an_empty_cache_is_nothing_to_worry_about(machine: Machine):
    cache = Cache(machine, machine.folder, machine.folder)
    assert "0.0 MiB" in cache.command()
    assert "freed 0.0 MiB" in cache.command("clean", "--all")


def test_clean_removes_what_this_version_cannot_use(cache: Cache):
    old = cache.add("0123456789abcdef")
    other = cache.add("1123456789abcdef")
    note = json.loads((cache.entry / "compiled-from.json").read_text())
    (other / "compiled-from.json").write_text(json.dumps({**note, "source": "/no/such/folder"}))
    said = cache.command("clean")
    assert "removed 0123456789abcdef" in said
    assert not old.exists() and not other.exists()
    verify(cache.bundle)
    assert set(os.listdir(cache.bundles)) == {cache.entry.name}


def test_clean_removes_what_nobody_used_for_long(cache: Cache):
    used = time.time() - 10 * DAY_S
    os.utime(cache.entry / "compiled-from.json", (used, used))
    cache.command("clean", "--older-than", 11)
    assert cache.bundle.exists()
    assert "removed My-model" in cache.command("clean", "--older-than", 9)
    assert not cache.entry.exists()


def test_a_use_counts(cache: Cache):
    used = time.time() - 10 * DAY_S
    os.utime(cache.entry / "compiled-from.json", (used, used))
    assert cache.machine.resolve(cache.checkpoint)["bundle"] == str(cache.bundle)
    cache.command("clean", "--older-than", 9)
    assert cache.bundle.exists()


def test_what_a_process_uses_stays(cache: Cache):
    with subprocess.Popen(
        [sys.executable, "-c", USE, cache.checkpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=cache.machine.environment,
    ) as user:
        assert user.stdin and user.stdout
        assert user.stdout.readline() == f"{cache.bundle}\n"
        said = cache.command("clean", "--all")
        assert "kept My-model" in said
        assert "1 in use" in said
        verify(cache.bundle)
        user.stdin.close()
    assert "removed My-model" in cache.command("clean", "--all")
    assert not cache.entry.exists()


def test_what_is_about_to_be_compiled_stays(cache: Cache):
    """Who compiles holds the entry alone before there is anything in it."""
    shutil.rmtree(cache.bundle)
    entry = os.open(cache.entry, os.O_RDONLY)
    fcntl.flock(entry, fcntl.LOCK_EX)
    assert "kept My-model" in cache.command("clean", "--all")
    os.close(entry)
    assert "removed My-model" in cache.command("clean", "--all")


def test_what_is_being_compiled_stays(cache: Cache):
    shutil.rmtree(cache.bundle)
    with cache.machine.start(cache.checkpoint) as compiling:
        deadline = time.monotonic() + DEADLINE_S
        while not list(cache.entry.glob(".*.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "kept My-model" in cache.command("clean", "--all")
        _, errors = compiling.communicate()
    assert compiling.returncode == 0, errors
    verify(cache.bundle)


def test_nothing_outside_of_the_cache_is_touched(cache: Cache, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (cache.bundles / "0123456789abcdef").symlink_to(outside)
    (cache.bundles / ".removed-2123456789abcdef").symlink_to(outside)
    (cache.add("1123456789abcdef") / "link").symlink_to(outside)
    own = cache.bundles / "my notes"
    own.mkdir()
    cache.command("clean", "--all")
    assert (outside / "precious").read_text() == "precious"
    assert own.is_dir()
    assert not cache.entry.exists()
    assert not (cache.bundles / "1123456789abcdef").exists()


def test_what_an_interrupted_removal_left_is_removed(cache: Cache):
    left = cache.entry.rename(cache.bundles / f".removed-{cache.entry.name}")
    cache.command("clean")
    assert not left.exists()


def test_a_bundle_that_another_user_made_is_not_run(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    from mlc_edge.errors import ConfigError
    from mlc_edge.models import resolve_model

    monkeypatch.setenv("MLC_EDGE_CACHE", str(cache.machine.folder / "compiled"))
    assert resolve_model(cache.checkpoint) == cache.bundle
    monkeypatch.setattr("mlc_edge.compiled._in_use", {})
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid() == 0:
        for path in (cache.entry, cache.bundle):
            os.chown(path, 4242, 4242)
    with pytest.raises(ConfigError, match="belongs to another user"):
        resolve_model(cache.checkpoint)
