"""`mlc-edge web` as people start it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.web.fakes import LIBRARY, write_bundle
from tests.web.serving import get

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mlc_edge", "web", *map(str, arguments)]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, **environment},
    )


@contextmanager
def started(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the URL that it printed."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        ready = re.fullmatch(r"Ready: (http://\S+/)\n", process.stdout.readline())
        assert ready
        yield process, ready[1]
    finally:
        process.kill()
        process.communicate()


def test_answers_as_soon_as_it_says_so_and_ends_on_ctrl_c(bundle: Path, app_folder: Path):
    with started(bundle, "--static", app_folder, "--port", 0) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert get(f"{url}health").json()["bundles"] == ["fake-q4f32_1"]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["half a request", "an answer nobody reads"])
def test_ctrl_c_ends_open_downloads(tmp_path: Path, app_folder: Path, end: bytes):
    # More than the kernel keeps for a client that doesn't read.
    bundle = write_bundle(tmp_path, {"params_shard_0.bin": bytes(32 << 20)})
    request = b"GET /bundles/fake-q4f32_1/params_shard_0.bin HTTP/1.1\r\nHost: localhost\r\n"
    with started(bundle, "--static", app_folder, "--port", 0) as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.split(":")[2][:-1]))) as connection:
            connection.sendall(request + end)
            if end:
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_port_in_use(bundle: Path, app_folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(bundle, "--static", app_folder, "--port", port)
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(rf"error: .*127\.0\.0\.1:{port}.*in use.*--port\.\n", result.stderr)


@pytest.mark.parametrize("option", [("--host", "no.such.host.invalid"), ("--port", "70000")])
def test_impossible_address(app_folder: Path, option: tuple[str, str]):
    result = run("--static", app_folder, *option)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_bundle_that_is_none(tmp_path: Path, app_folder: Path):
    result = run(tmp_path, "--static", app_folder, "--port", 0)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert str(tmp_path) in result.stderr


def test_a_broken_bundle_is_one_clear_error(tmp_path: Path, app_folder: Path):
    files = {"tokenizer_config.json": b'{"chat_template": "{% if %}"}', LIBRARY: b"#!/bin/sh"}
    result = run(write_bundle(tmp_path / "b", files), "--static", app_folder, "--port", 0)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "is no template" in line and f"{LIBRARY}: it is no library" in line


def test_other_hosts_are_warned_about(bundle: Path, app_folder: Path):
    options = ("--static", app_folder, "--port", 0, "--host", "0.0.0.0")
    with started(bundle, *options) as (process, url):
        assert url.startswith("http://0.0.0.0:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.startswith("warning: everyone who reaches 0.0.0.0")


@pytest.mark.parametrize(
    "origin",
    [
        "https://[",
        "https://",
        "https://EXAMPLE.com",
        "https://a.com:443",
        "https://u@a.com",
        "a.com",
        "https://a.com/",
    ],
)
def test_origins_that_browsers_never_send_are_refused(origin: str, bundle: Path, app_folder: Path):
    done = run(bundle, "--static", app_folder, "--port", 0, "--embed", origin)
    assert done.returncode == 2
    assert "--embed" in done.stderr and "Traceback" not in done.stderr
