"""Start, load, reload, drain and end, as systemd and operators see them."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.daemon.systemd import is_stuck
from mlc_edge.engine import EngineStats
from tests.daemon.daemons import LONG, SHORT, TIMEOUT_S, Daemon, run, started
from tests.models.hub import serving

KEEP_ALIVE_USEC = 8_000_000
PRIVATE_HOSTS = (
    *("192.168.1.7:8000", "8.8.8.8", "[fe80::1]:8000", "jetson", "Jetson:8000"),
    *("raspberrypi.local", "PI.local.:8000", "pi.localhost", "pi.home.arpa", "pi.internal"),
    *("pi.home", "pi.corp"),
)
# Whoever has such a name can have it name this machine's address.
PUBLIC_HOSTS = (
    *("rebound.example.com", "fritz.box", "pi.fritz.box", "pi.lan", "local.example.com"),
    *("xlocal.com", "pi.arpa", "home.arpa.com", "192.168.1.7.example.com", "pi.home.example"),
)


@contextmanager
def loading(bundle: Path, folder: Path) -> Iterator[tuple[Daemon, threading.Event]]:
    """A daemon whose model doesn't arrive from the Hub before the event."""
    name, config = "acme/pocket-q4f16_1", "mlc-chat-config.json"
    with serving() as hub:
        hub.add_folder(name, bundle)
        hub.held[config] = threading.Event()
        places = {"HF_ENDPOINT": hub.url.rstrip("/"), "HF_HOME": str(folder)}
        options = (f"HF://{name}", "--trust-library")
        with started(*options, ready=False, NO_PROXY="127.0.0.1,localhost", **places) as daemon:
            yield daemon, hub.held[config]


def test_port_is_open_before_the_model_is_there(bundle: Path, tmp_path: Path):
    with loading(bundle, tmp_path) as (daemon, arrived):
        assert daemon.get("health").status_code == 200
        for response in (daemon.get("ready"), daemon.get("v1/models"), daemon.ask(json=SHORT)):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["code"] == "model_loading"
        assert daemon.metric("ready") == 0
        arrived.set()
        daemon.wait_until_ready()
        assert daemon.ask(json=SHORT).status_code == 200
        assert daemon.metric("ready") == 1


def test_ends_while_loading(bundle: Path, tmp_path: Path):
    with loading(bundle, tmp_path) as (daemon, _):
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0


def test_model_that_is_none(tmp_path: Path):
    result = run(tmp_path, "--port", 0)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert str(tmp_path) in result.stderr.splitlines()[-1]


def test_port_in_use(bundle: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(bundle, "--port", taken.getsockname()[1])
    assert result.returncode == 2
    assert "in use" in result.stderr.splitlines()[-1]


@contextmanager
def answering(daemon: Daemon, **more: object) -> Iterator[Iterator[str]]:
    """The lines of a long stream of which the first was read."""
    body = {**LONG, **more}
    with httpx.stream(
        "POST", f"{daemon.api}/chat/completions", json=body, timeout=TIMEOUT_S
    ) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_requests_finish(bundle: Path, number: signal.Signals):
    patient = ("--drain-timeout", 1000)
    with started(bundle, *patient) as daemon, answering(daemon) as lines:
        daemon.signal(number)
        daemon.log.wait_for(f"{number.name}: shutting down")
        for response in (daemon.get("ready"), daemon.ask(json=SHORT)):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "engine_stopped"
        assert daemon.get("health").status_code == 200
        *_, last = (line for line in lines if line)
        assert last == "data: [DONE]"
        assert daemon.end() == 0


@pytest.mark.parametrize("how", ["no time", "second signal"])
def test_drain_that_is_cut_short(bundle: Path, how: str):
    seconds = 0 if how == "no time" else 1000
    with started(bundle, "--drain-timeout", seconds) as daemon, answering(daemon) as lines:
        daemon.signal(signal.SIGTERM)
        if seconds:
            daemon.log.wait_for("SIGTERM: shutting down")
            daemon.signal(signal.SIGTERM)
        *_, last = (line for line in lines if line)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_stopped"
        assert daemon.end() == 0


def test_reload(bundle: Path, tmp_path: Path):
    config, keys = tmp_path / "config.toml", tmp_path / "keys"
    config.write_text('log_level = "info"\n')
    with started(bundle, "--config", config) as daemon:
        keys.write_text("sk-0123456789abcdef\n")
        keys.chmod(0o600)
        config.write_text(
            f'api_key_file = "{keys}"\nmax_body = 10\nmax_batch = 2\nlog_level = "debug"'
        )
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for("configuration reloaded: .*api_key_file.*max_body")
        assert daemon.log.wait_for("takes effect after a restart: (.*)")[1] == "max_batch"
        assert daemon.get("v1/models").status_code == 401
        authorized = {"authorization": "Bearer sk-0123456789abcdef"}
        assert daemon.ask(json=SHORT, headers=authorized).status_code == 413
        assert daemon.get("health", headers={"x-request-id": "seen"}).status_code == 200
        daemon.log.wait_for("GET /health.*seen")

        config.write_text("max_body = 0\n")
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for(f"not reloaded.*{config}: max_body")
        keys.write_text("sk-fedcba9876543210\n")
        config.write_text(f'api_key_file = "{keys}"\n')
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for("configuration reloaded: max_body, log_level")
        assert daemon.get("v1/models", headers=authorized).status_code == 401
        authorized = {"authorization": "Bearer sk-fedcba9876543210"}
        assert daemon.ask(json=SHORT, headers=authorized).status_code == 200


def test_reload_of_a_key_file_that_is_wrong_changes_nothing(bundle: Path, tmp_path: Path):
    config, keys = tmp_path / "config.toml", tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef\n")
    keys.chmod(0o600)
    config.write_text(f'api_key_file = "{keys}"\n')
    authorized = {"authorization": "Bearer sk-0123456789abcdef"}
    with started(bundle, "--config", config) as daemon:
        keys.write_text("# none any more\n")
        config.write_text(f'api_key_file = "{keys}"\nmax_body = 10\n')
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for("not reloaded.*holds no API keys")
        assert daemon.get("v1/models").status_code == 401
        assert daemon.ask(json=SHORT, headers=authorized).status_code == 200


class Systemd:
    """The other end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(TIMEOUT_S)

    def wait_for(self, name: str) -> dict[str, str]:
        """The next message that has this variable."""
        while True:
            text = self.socket.recv(4096).decode()
            message: dict[str, Any] = dict(line.split("=", 1) for line in text.split("\n"))
            if name in message:
                return message


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(bundle: Path, tmp_path: Path, abstract: bool):
    address = f"@mlc-edge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    systemd = Systemd(address)
    with (
        systemd.socket,
        started(bundle, NOTIFY_SOCKET=address, WATCHDOG_USEC=str(KEEP_ALIVE_USEC)) as daemon,
    ):
        assert int(systemd.wait_for("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 0
        assert systemd.wait_for("READY") == {"READY": "1", "STATUS": "serving pocket-q4f16_1"}
        assert systemd.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
        last = time.monotonic()
        assert systemd.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
        assert time.monotonic() - last < KEEP_ALIVE_USEC / 1e6
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.signal(signal.SIGHUP)
        assert int(systemd.wait_for("RELOADING")["MONOTONIC_USEC"]) >= before
        assert systemd.wait_for("READY")["READY"] == "1"
        daemon.signal(signal.SIGTERM)
        assert systemd.wait_for("STOPPING")["STOPPING"] == "1"
        assert daemon.end() == 0


def stats(**known: int) -> EngineStats:
    return EngineStats(**{**dict.fromkeys((f.name for f in fields(EngineStats)), 0), **known})


def test_engine_without_progress_gets_no_keep_alive():
    idle, working = stats(steps=7), stats(steps=7, requests=1)
    assert is_stuck(working, stats(steps=7, requests=2))
    assert not is_stuck(idle, working)
    assert not is_stuck(working, idle)
    assert not is_stuck(idle, stats(steps=7))
    assert not is_stuck(working, stats(steps=8, requests=1))
    assert not is_stuck(None, working)


def on_loopback(daemon: Daemon) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{daemon.port}/", timeout=TIMEOUT_S)


def test_with_keys_any_name_will_do(bundle: Path, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef\n")
    keys.chmod(0o600)
    with (
        started(bundle, "--host", "0.0.0.0", "--api-key-file", keys, ready=False) as daemon,
        on_loopback(daemon) as http,
    ):
        for host in PUBLIC_HOSTS:
            assert http.get("health", headers={"host": host}).status_code == 200
        assert http.get("v1/models", headers={"host": PUBLIC_HOSTS[0]}).status_code == 401
        assert not daemon.log.find("everyone who reaches")


def test_warning_without_keys(bundle: Path, tmp_path: Path):
    with (
        started(bundle, "--host", "0.0.0.0", ready=False) as daemon,
        on_loopback(daemon) as http,
    ):
        daemon.log.wait_for("WARNING everyone who reaches 0.0.0.0 can use this model")
        for host in PRIVATE_HOSTS:
            assert http.get("health", headers={"host": host}).status_code == 200, host
        for host in PUBLIC_HOSTS:
            assert http.get("health", headers={"host": host}).status_code == 403, host
