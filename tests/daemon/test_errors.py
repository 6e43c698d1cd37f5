"""Wrong requests: an OpenAI-style error with the right status, and never a trace."""

import json
import socket

import httpx
import pytest

from tests.daemon.conftest import Guarded
from tests.daemon.daemons import QUESTION, SHORT, Daemon

JSON = {"content-type": "application/json"}


def error_of(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    content = response.json()
    assert list(content) == ["error"]
    assert set(content["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return content["error"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"messages": NaN}', 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 422, "invalid_body"),
        (b'"text"', 422, "invalid_body"),
        (b"null", 422, "invalid_body"),
        (b"{}", 400, "invalid_request"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"messages": 7}', 400, "invalid_request"),
        (b'{"self": 1, "messages": []}', 400, "invalid_request"),
        (b'{"": 1}', 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_wrong_bodies(daemon: Daemon, path: str, body: bytes, status: int, code: str):
    response = daemon.ask(path, content=body, headers=JSON)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", "hot"),
        ("max_tokens", 0),
        ("stream", "yes"),
        ("stream_options", 3),
        ("stream_options", {"include_usage": True}),
        ("tools", [{"type": "function"}]),
        ("temprature", 1),
    ],
)
def test_wrong_parameters_are_named(daemon: Daemon, param: str, value: object):
    response = daemon.ask(json={**SHORT, param: value})
    error = error_of(response)
    assert (response.status_code, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("value", [3, {"include_usage": "yes"}])
def test_wrong_stream_options_of_a_stream(daemon: Daemon, value: object):
    response = daemon.ask(json={**SHORT, "stream": True, "stream_options": value})
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_request"


def test_other_content_types(daemon: Daemon):
    content = json.dumps(SHORT).encode()
    for kind in ({"content-type": "text/plain"}, {}):
        response = daemon.ask(content=content, headers=kind)
        assert response.status_code == 415
        assert "application/json" in str(error_of(response)["message"])


def test_unknown_addresses_and_methods(http: httpx.Client):
    for path in ("/v1/nothing", "/v1/chat", "/v1/models/other", "/v1/models/a/b"):
        response = http.get(path)
        assert (response.status_code, error_of(response)["param"]) in ((404, None), (404, "model"))
    response = http.get("/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert error_of(response)["code"] == "method_not_allowed"


def test_body_that_is_announced_too_long(guarded: Guarded):
    messages = [{**QUESTION[0], "content": "x" * 5000}]
    response = guarded.daemon.ask(json={"messages": messages}, headers=guarded.authorized)
    assert response.status_code == 413
    assert "4096" in str(error_of(response)["message"])


@pytest.mark.parametrize(("longer", "status"), [(0, 200), (1, 413)])
@pytest.mark.parametrize("announced", [True, False])
def test_body_of_just_the_length_that_is_allowed(
    guarded: Guarded, announced: bool, longer: int, status: int
):
    content = json.dumps(SHORT).encode()
    content += b" " * (4096 + longer - len(content))
    headers = {**guarded.authorized, **JSON}
    body = content if announced else iter((content[:100], content[100:]))
    assert guarded.daemon.ask(content=body, headers=headers).status_code == status


def test_body_that_is_too_long_without_saying_so(guarded: Guarded):
    headers = {**guarded.authorized, **JSON}
    pieces = (b"x" * 1000 for _ in range(100))
    response = guarded.daemon.ask(content=pieces, headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")


def test_daemon_survives_what_is_no_http(daemon: Daemon):
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert b" 400 " in connection.makefile("rb").readline()
    assert daemon.get("health").json() == {"status": "ok"}
