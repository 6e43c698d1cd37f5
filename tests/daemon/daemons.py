"""Real daemons: started by the command, on a free port, watched by their log."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
MODEL = "pocket-q4f16_1"
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
SHORT = {"messages": QUESTION, "temperature": 0, "max_tokens": 8}
# Long enough to be seen at work: it fills the context several times over.
LONG = {"messages": QUESTION, "max_tokens": 900, "n": 12, "ignore_eos": True, "stream": True}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mlc_edge", "run", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """Without what the machine's own configuration says.

    One thread: several that share their cores with other tests wait for each other.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLC_EDGE_")}
    threads = {"MLC_EDGE_PREFILL_THREADS": "1", "MLC_EDGE_DECODE_THREADS": "1"}
    return {**inherited, **threads, "COLUMNS": "100", "NO_COLOR": "1", **extra}


def run(*arguments: object, **extra: str) -> "subprocess.CompletedProcess[str]":
    """The command to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(**extra),
        timeout=TIMEOUT_S,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Log:
    """What a process writes, by line, while it runs."""

    lines: list[str] = field(default_factory=list)
    ended: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def read(self, stream: Iterator[str]) -> None:
        for line in stream:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def find(self, pattern: str) -> re.Match[str] | None:
        return next((m for line in self.lines if (m := re.search(pattern, line))), None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in a line; fails when the process ends without one."""
        with self._changed:
            self._changed.wait_for(lambda: self.find(pattern) or self.ended, TIMEOUT_S)
        match = self.find(pattern)
        assert match, "\n".join(self.lines)
        return match


@dataclass
class Daemon:
    process: "subprocess.Popen[str]"
    log: Log
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    @property
    def api(self) -> str:
        return f"{self.url}v1"

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=TIMEOUT_S, **options)

    def get(self, path: str, **options: object) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=TIMEOUT_S, **options)

    def post(self, path: str, **options: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", timeout=TIMEOUT_S, **options)

    def ask(self, path: str = "chat/completions", **options: object) -> httpx.Response:
        """POST to the API; `json` or `content` is the body."""
        return self.post(f"v1/{path}", **options)

    def metric(self, name: str, headers: Mapping[str, str] | None = None) -> float:
        text = self.get("metrics", headers=headers).text
        match = re.search(rf"^mlc_edge_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert match, text
        return float(match[1])

    def wait_until_ready(self) -> None:
        self.log.wait_for(r"ready: ")
        assert self.get("ready").status_code == 200

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for it; the exit status."""
        return self.process.wait(TIMEOUT_S)


@contextmanager
def started(
    *arguments: object, ready: bool = True, python: Sequence[str] = (sys.executable,), **extra: str
) -> Iterator[Daemon]:
    """A daemon on a free port; `extra` are environment variables."""
    process = subprocess.Popen(
        [*python, "-m", "mlc_edge", "run", "--port", "0", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**extra),
    )
    assert process.stderr is not None
    log = Log()
    reader = threading.Thread(target=log.read, args=(process.stderr,))
    reader.start()
    try:
        daemon = Daemon(process, log, log.wait_for(r"listening on (http://\S+/)")[1])
        if ready:
            daemon.wait_until_ready()
        yield daemon
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def end_of_engine(script: str, bundle: Path) -> tuple[int, Log]:
    """How a daemon ends, started by `script`, whose engine ends at the token 999; its client is told."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(bundle)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:
        assert process.stderr
        log = Log()
        try:
            lines = iter(process.stderr)
            for line in lines:
                log.lines.append(line)
                if "ready: " in line:
                    break
            url = log.find(r"listening on (http://\S+/)")
            assert url, log.lines
            ask = f"{url[1]}v1/completions"
            alive = httpx.post(ask, json={"prompt": "Hello", "max_tokens": 2}, timeout=TIMEOUT_S)
            assert alive.status_code == 200
            answer = httpx.post(ask, json={"prompt": [999, 1]}, timeout=TIMEOUT_S)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_stopped"
            log.lines += list(lines)
            return process.wait(TIMEOUT_S), log
        except BaseException:
            process.kill()
            raise
