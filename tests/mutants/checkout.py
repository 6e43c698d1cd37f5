"""A copy of the checkout in which faults are planted, and the programs that run in it."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.lists import Mutant

MARK = "MLC_EDGE_MUTANTS"
POLL_S = 0.1


class Interrupted(Exception):
    """The run was stopped from outside."""


@dataclass(frozen=True)
class Outcome:
    """`returncode` is None where the time limit ended the program."""

    returncode: int | None
    output: str
    seconds: float


class Checkout:
    """What git has or would add, with the built page; packages and caches are links.

    `stop` ends the running program and makes `run` raise Interrupted.
    """

    def __init__(self, root: Path, folder: Path, stop: threading.Event) -> None:
        self.path = folder / "checkout"
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        self._output = folder / "output.txt"
        self._stop = stop
        for name in _listed_files(root):
            _copy(root / name, self.path / name)
        if (root / "web/static").is_dir():
            shutil.copytree(root / "web/static", self.path / "web/static", dirs_exist_ok=True)
        # Links of their own for what a cache holds: what a fault adds to it stays here.
        cached = [path.relative_to(root) for path in (root / ".cache").glob("*")]
        for name in (Path("node_modules"), Path(".venv"), *cached):
            if (root / name).exists() and not os.path.lexists(self.path / name):
                (self.path / name).parent.mkdir(exist_ok=True)
                (self.path / name).symlink_to((root / name).resolve())

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        file = self.path / mutant.file
        source = file.read_bytes()
        file.write_bytes(source.replace(mutant.old.encode(), mutant.new.encode()))
        try:
            yield
        finally:
            file.write_bytes(source)

    def run(self, command: list[str], limit_s: float | None = None) -> Outcome:
        """Runs a program to its end, and nothing that it started outlives it."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.path),
            "TMPDIR": str(self._temporary),
            # A cached module looks current when a fault changes neither its size nor the second.
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(self.path),
        }
        start = time.monotonic()
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the runner alone, which then ends all of it.
                start_new_session=True,
            )
            try:
                cut = self._wait(process, limit_s)
            finally:
                _end_marked(self.path)
        seconds = time.monotonic() - start
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(exist_ok=True)
        text = self._output.read_text(errors="replace")
        return Outcome(None if cut else process.returncode, text, seconds)

    def _wait(self, process: subprocess.Popen[bytes], limit_s: float | None) -> bool:
        """Whether the time limit ended the program."""
        deadline = time.monotonic() + limit_s if limit_s else float("inf")
        while not self._stop.is_set() and time.monotonic() < deadline:
            try:
                process.wait(POLL_S)
                return False
            except subprocess.TimeoutExpired:
                pass
        process.kill()
        process.wait()
        if self._stop.is_set():
            raise Interrupted
        return True


def _listed_files(root: Path) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and os.path.lexists(root / name)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _end_marked(path: Path) -> None:
    """Ends what the run started, in whatever session: daemons, browsers."""
    mark = f"{MARK}={path}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
