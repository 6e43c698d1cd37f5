"""The embedded model built by the command line and served by it, as a user does."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from web.browser import chromium

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "mlc_edge"]


class Host:
    """A running `mlc-edge web`; `url` ends with a slash."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "web", *map(str, arguments), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self.url = self._read_url()

    def _read_url(self) -> str:
        assert self._process.stdout
        printed = []
        for line in self._process.stdout:
            printed.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                return found.group()
        raise AssertionError("mlc-edge web ended early:\n" + "".join(printed))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)
        if self._process.stdout:
            self._process.stdout.close()


@pytest.fixture
def start_host(web_bundle: Path) -> Iterator[Callable[..., Host]]:
    """Starts `mlc-edge web` with arguments; without, for the embedded model."""
    hosts: list[Host] = []

    def start(*arguments: object) -> Host:
        hosts.append(Host(*(arguments or [web_bundle])))
        return hosts[-1]

    yield start
    for host in hosts:
        host.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(software=True) as browser:
        yield browser


@pytest.fixture(scope="session")
def static_site(web_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `mlc-edge site` writes for the embedded model."""
    folder = tmp_path_factory.mktemp("static") / "site"
    subprocess.run([*COMMAND, "site", str(folder), str(web_bundle)], check=True, cwd=ROOT)
    return folder
