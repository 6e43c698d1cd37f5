"""One line a request; for people, for journald, as JSON."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.daemon.conftest import Guarded
from tests.daemon.daemons import SHORT, Daemon, command, environment


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


def test_ids_that_could_forge_lines_are_replaced(daemon: Daemon):
    response = daemon.get("v1/models?key=secret%0a", headers={"x-request-id": "a b=c"})
    given = response.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", given)
    assert "secret" not in daemon.log.wait_for(f".*{given}.*")[0]


def test_probes_are_not_logged(daemon: Daemon):
    daemon.get("health", headers={"x-request-id": "a-probe"})
    daemon.get("v1/models", headers={"x-request-id": "after-the-probe"})
    daemon.log.wait_for("after-the-probe")
    assert not daemon.log.find("a-probe")


def test_json(guarded: Guarded):
    headers = {**guarded.authorized, "x-request-id": "as-json"}
    guarded.daemon.ask(json=SHORT, headers=headers)
    line = json.loads(guarded.daemon.log.wait_for(".*as-json.*")[0])
    assert (line["level"], line["status"], line["request_id"]) == ("INFO", 200, "as-json")
    assert line["message"] == "POST /v1/chat/completions"
    assert line["completion_tokens"] > 0
    assert "time" in line


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
            timeout=60,
        )
    lines = log.read_text().splitlines()
    assert any(line.startswith("<4>everyone who reaches 0.0.0.0") for line in lines)
    assert any(line.startswith("<6>listening on http://0.0.0.0:") for line in lines)
