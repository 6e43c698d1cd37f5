"""What the host never serves, and the headers that isolate what it does."""

import socket
from pathlib import Path

import httpx
import pytest

from tests.web.fakes import write_app, write_bundle
from tests.web.serving import Site, get, serving
from web.host import HostConfig, create_app

SHARD_URL = "/bundles/fake-q4f32_1/params_shard_0.bin"


def raw_status(site: Site, target: str) -> int:
    """Status of a GET for `target` exactly as written: HTTP clients would tidy it up."""
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


ESCAPES = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "dist/../../secret.txt",
    "dist/..%5c..%5csecret.txt",
    "./index.html",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "index.html%00.js",
    "%c0%ae%c0%ae/secret.txt",
    "link.txt",
    "linked/secret.txt",
    ".hidden",
    "dist",
    "dist/",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory):
    """A site whose folders hold links out of them, and secrets beside them."""
    root = tmp_path_factory.mktemp("walled")
    (root / "secret.txt").write_text("secret")
    app = write_app(root / "static", {"index.html": b"page", "dist/a.js": b"1"})
    bundle = write_bundle(root / "bundle", {"params_shard_0.bin": b"weights"})
    for folder in (app, bundle):
        (folder / ".hidden").write_text("secret")
        (folder / "link.txt").symlink_to(root / "secret.txt")
        (folder / "linked").symlink_to(root)
    (bundle / "unlisted.bin").write_text("not in the lock")
    with serving(create_app(HostConfig(bundles=(bundle,), static=app))) as site:
        yield site


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out_of_the_page_folder(walled: Site, path: str):
    assert raw_status(walled, f"/{path}") == 404


@pytest.mark.parametrize("path", [*ESCAPES, "unlisted.bin", "../fake-q4f32_1", ""])
def test_bundles_serve_only_what_their_lock_names(walled: Site, path: str):
    assert raw_status(walled, f"/bundles/fake-q4f32_1/{path}") == 404


def test_sources_of_the_page_are_not_served(http: httpx.Client):
    for name in ("page.html", "chat.css"):
        assert http.get(f"/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/dist/chat-ABCD1234.js", "/health", "/missing"])
def test_page_is_isolated(http: httpx.Client, path: str):
    headers = http.get(path).headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_the_frame_of_diagrams_has_no_origin_and_no_network(http: httpx.Client):
    headers = http.get("/dist/diagram-ABCD1234.html").headers
    policy = dict(
        directive.split(" ", 1) for directive in headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["sandbox"] == "allow-scripts"
    assert policy["frame-ancestors"] == "'self'"
    # Without it an isolated page doesn't take the frame.
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cache-control"] == "public, max-age=31536000, immutable"


def test_content_security_policy_is_strict(http: httpx.Client):
    policy = dict(
        directive.split(" ", 1)
        for directive in http.get("/").headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'self'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["worker-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    for name in ("object-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == "'none'"
    whole = " ".join(policy.values())
    assert "unsafe-inline" not in whole
    assert "'unsafe-eval'" not in whole
    assert "blob:" not in whole


@pytest.mark.parametrize("path", [SHARD_URL, "/bundles/index.json", "/bundles/none/x"])
def test_other_sites_may_load_bundles(http: httpx.Client, path: str):
    headers = http.get(path, headers={"origin": "https://example.com"}).headers
    assert headers["access-control-allow-origin"] == "*"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert "etag" in headers["access-control-expose-headers"]


def test_preflight_of_a_resumed_download(http: httpx.Client):
    asked = {
        "origin": "https://example.com",
        "access-control-request-method": "GET",
        "access-control-request-headers": "if-range, range",
    }
    response = http.options(SHARD_URL, headers=asked)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "*"
    assert "if-range" in response.headers["access-control-allow-headers"]


def test_304_and_416_keep_the_headers(http: httpx.Client):
    not_modified = http.get("/", headers={"if-none-match": "*"})
    assert not_modified.headers["cross-origin-embedder-policy"] == "require-corp"
    unsatisfiable = http.get(SHARD_URL, headers={"range": "bytes=99999999-"})
    assert unsatisfiable.headers["access-control-allow-origin"] == "*"


def test_file_that_becomes_a_link_is_refused(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("weights")
    app = write_app(tmp_path / "static", {"index.html": b"page"})
    bundle = write_bundle(tmp_path / "bundle", {"params_shard_0.bin": b"weights"})
    with serving(create_app(HostConfig(bundles=(bundle,), static=app))) as site:
        assert get(f"{site.url}{SHARD_URL[1:]}").status_code == 200
        (bundle / "params_shard_0.bin").unlink()
        (bundle / "params_shard_0.bin").symlink_to(tmp_path / "secret.txt")
        assert get(f"{site.url}{SHARD_URL[1:]}").status_code == 404
