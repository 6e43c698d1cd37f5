"""Who may use the API: keys, pages of other sites, names of this machine."""

import json
import socket

import httpx
import pytest

from tests.daemon.conftest import KEY, SITE, Guarded
from tests.daemon.daemons import LONG, SHORT, TIMEOUT_S, Daemon

ORIGIN = "access-control-allow-origin"


@pytest.mark.parametrize("path", ["v1/models", "v1/nothing", "metrics"])
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "é"]
)
def test_without_a_key(guarded: Guarded, path: str, given: str | None):
    headers = {} if given is None else {b"authorization": given.encode()}
    response = guarded.daemon.get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert KEY[:-1] not in response.text


@pytest.mark.parametrize("key", [KEY, "sk-another-0123456789"])
def test_with_a_key(guarded: Guarded, key: str):
    for path in ("v1/models", "metrics"):
        headers = {"authorization": f"Bearer {key}"}
        assert guarded.daemon.get(path, headers=headers).status_code == 200


def test_a_key_is_one_client_however_it_is_spelt(guarded: Guarded):
    """Of one that has the only place; another key finds one."""
    ask = guarded.daemon.ask
    url = f"{guarded.daemon.api}/chat/completions"
    with httpx.stream(
        "POST", url, json=LONG, headers=guarded.authorized, timeout=TIMEOUT_S
    ) as answer:
        lines = answer.iter_lines()
        name = json.loads(next(lines).removeprefix("data: "))["id"]
        for given in (f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}"):
            refused = ask(json=SHORT, headers={"authorization": given})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        other = {"authorization": "Bearer sk-another-0123456789"}
        assert ask(json=SHORT, headers=other).status_code == 200
        assert guarded.daemon.post(f"v1/requests/{name}/cancel", headers=other).status_code == 200


def test_comments_are_no_keys(guarded: Guarded):
    headers = {"authorization": "Bearer # the test's own"}
    assert guarded.daemon.get("v1/models", headers=headers).status_code == 401


def test_liveness_needs_no_key(guarded: Guarded):
    assert guarded.daemon.get("health").status_code == 200
    assert guarded.daemon.get("ready").status_code == 200


def test_allowed_site(guarded: Guarded):
    headers = {**guarded.authorized, "origin": SITE}
    response = guarded.daemon.get("v1/models", headers=headers)
    assert (response.status_code, response.headers[ORIGIN]) == (200, SITE)
    asked = {
        "origin": SITE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-os",
    }
    preflight = httpx.options(
        f"{guarded.daemon.api}/chat/completions", headers=asked, timeout=TIMEOUT_S
    )
    assert (preflight.status_code, preflight.headers[ORIGIN]) == (200, SITE)
    assert "access-control-allow-credentials" not in preflight.headers
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]


def test_allowed_site_may_read_errors(guarded: Guarded):
    response = guarded.daemon.get("v1/models", headers={"origin": SITE})
    assert (response.status_code, response.headers[ORIGIN]) == (401, SITE)


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", f"{SITE}.evil.org", "http", "http://["]
)
def test_other_sites(guarded: Guarded, daemon: Daemon, origin: str):
    for one, headers in ((guarded.daemon, guarded.authorized), (daemon, {})):
        response = one.get("v1/models", headers={**headers, "origin": origin})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "origin_not_allowed"
        assert ORIGIN not in response.headers


def test_own_page_and_programs_may(daemon: Daemon):
    origin = daemon.url.rstrip("/")
    response = daemon.get("v1/models", headers={"origin": origin})
    assert response.status_code == 200
    assert ORIGIN not in response.headers
    assert daemon.get("v1/models").status_code == 200


def status_as(daemon: Daemon, host: str, path: str = "/v1/models") -> int:
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("mlc.localhost", 200),
        ("", 403),
        ("evil.example.com", 403),
        ("evil.example.com:8000", 403),
        ("localhost.evil.example.com", 403),
        ("127.0.0.1.evil.example.com", 403),
        ("192.168.1.7", 403),
    ],
)
def test_names_on_loopback(daemon: Daemon, host: str, status: int):
    assert status_as(daemon, host) == status
    assert status_as(daemon, host, "/") == status
