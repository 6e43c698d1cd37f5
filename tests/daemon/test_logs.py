"""One line a request; for people, for journald, as JSON."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon.conftest import Guarded
from tests.daemon.daemons import SHORT, Daemon, command, environment

LOG_TIME = "%Y-%m-%d %H:%M:%S"


def test_access_line(daemon: Daemon):
    response = daemon.ask(json=SHORT, headers={"x-request-id": "from-the-client"})
    assert response.headers["x-request-id"] == "from-the-client"
    usage = response.json()["usage"]
    line = daemon.log.wait_for("POST /v1/chat/completions request_id=from-the-client (.*)")[1]
    assert re.match(r"status=200 seconds=\d+\.\d+ ", line)
    assert f"prompt_tokens={usage['prompt_tokens']} " in line
    assert f"completion_tokens={usage['completion_tokens']} " in line
    assert re.search(r"first_token_s=\d", line)


def test_streams_are_logged_with_their_tokens(daemon: Daemon):
    daemon.ask(json={**SHORT, "stream": True}, headers={"x-request-id": "a-stream"})
    assert "completion_tokens=" in daemon.log.wait_for("request_id=a-stream.*")[0]


@pytest.mark.parametrize("given", ["a" * 128, "A1.b_c:d-e"])
def test_ids_of_clients_are_kept(daemon: Daemon, given: str):
    for path in ("health", "v1/models", "v1/nothing", ""):
        response = daemon.get(path, headers={"x-request-id": given})
        assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["a b=c", "a" * 129, "", "a\x7fb", 'a"b', "ä"])
def test_ids_that_could_forge_lines_are_replaced(daemon: Daemon, given: str):
    headers = {"x-request-id": given.encode("latin-1")}
    ids = [
        daemon.get("v1/models?key=secret%0a", headers=headers).headers["x-request-id"]
        for _ in range(2)
    ]
    assert ids[0] != ids[1]
    for new in ids:
        assert re.fullmatch(r"[0-9a-f]{32}", new)
        assert "secret" not in daemon.log.wait_for(f".*{new}.*")[0]


def test_probes_are_not_logged(daemon: Daemon):
    daemon.get("health", headers={"x-request-id": "a-probe"})
    daemon.get("v1/models", headers={"x-request-id": "after-the-probe"})
    daemon.log.wait_for("after-the-probe")
    assert not daemon.log.find("a-probe")


def json_line(guarded: Guarded, id: str) -> dict[str, object]:
    return json.loads(guarded.daemon.log.wait_for(f'.*"{id}".*')[0])


def test_json(guarded: Guarded):
    headers = {**guarded.authorized, "x-request-id": "as-json"}
    start = time.monotonic()
    usage = guarded.daemon.ask(json=SHORT, headers=headers).json()["usage"]
    # Its end is logged when the client has the answer already.
    line = json_line(guarded, "as-json")
    elapsed = time.monotonic() - start
    assert abs(time.time() - time.mktime(time.strptime(line.pop("time")[:19], LOG_TIME))) < 60
    assert usage["extra"]["e2e_latency_s"] <= line.pop("seconds") + 1e-4 <= elapsed + 1e-3
    assert line == {
        "level": "INFO",
        "logger": "edge.daemon.access",
        "message": "POST /v1/chat/completions",
        "request_id": "as-json",
        "status": 200,
        "client": "127.0.0.1",
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["extra"]["cached_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "first_token_s": round(usage["extra"]["time_to_first_token_s"], 4),
    }


def test_refusals_are_logged_without_tokens(guarded: Guarded):
    guarded.daemon.get("v1/models", headers={"x-request-id": "refused"})
    line = json_line(guarded, "refused")
    assert (line["message"], line["status"], line["client"]) == ("GET /v1/models", 401, "127.0.0.1")
    assert not {"prompt_tokens", "completion_tokens", "first_token_s"} & set(line)


def test_every_json_line_is_json(guarded: Guarded):
    assert all(json.loads(line)["message"] for line in guarded.daemon.log.lines)


def test_journald_gets_priorities(tmp_path: Path):
    """systemd names the stream it connected by device and inode."""
    log = tmp_path / "log"
    with log.open("w") as stderr:
        stat = os.fstat(stderr.fileno())
        subprocess.run(
            command(tmp_path, "--port", 0, "--host", "0.0.0.0", "--no-page"),
            stderr=stderr,
            env=environment(JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}"),
            timeout=120,
        )
    lines = log.read_text().splitlines()
    assert any(line.startswith("<4>everyone who reaches 0.0.0.0") for line in lines)
    assert any(line.startswith("<6>listening on http://0.0.0.0:") for line in lines)
