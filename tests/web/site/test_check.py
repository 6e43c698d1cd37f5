"""`mlc-edge site --check` against servers that do it right, plainly, and wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from tests.browser import serving as plain_server
from tests.web.serving import Site, serving
from tests.web.site.conftest import SHARD_BYTES, run_site
from web.host import HostConfig, create_app

SHARD = "bundles/fake-q4f32_1/params_shard_0.bin"
CHAT = "dist/chat-ABCDEFGH.js"


@pytest.fixture
def host(site: Path):
    """Our own host, serving the folder to all origins."""
    bundles = tuple(path.parent for path in site.glob("bundles/*/mlc-lock.json"))
    with serving(create_app(HostConfig(bundles=bundles, static=site, embedders=("*",)))) as host:
        yield host


def check(url: str, *options: str) -> tuple[int, list[tuple[str, str, str]], dict[str, Any]]:
    """Exit code, severity, path and problem of each finding, and the whole report."""
    done = run_site("--check", url, "--json", *options)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    found = [(f["severity"], f["path"], f["problem"]) for f in report["findings"]]
    return done.returncode, found, report


def test_our_own_host_has_no_fault(host: Site):
    code, found, report = check(host.url)
    assert (code, found) == (0, [])
    assert report["files"] > 10


def test_a_plain_server_works_with_warnings(site: Path):
    with plain_server(site.parent) as url:
        done = run_site("--check", f"{url}site/")
    assert done.returncode == 0, done.stdout
    for words in ("other origins", "uncompressed", "Range is ignored", "0 error(s)"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("path", "reply", "problem"),
    [
        (CHAT, Response("<html>Sign in</html>", media_type="text/html"), "type text/html"),
        (CHAT, Response(b"gone", 404), "answered with 404"),
        ("dist/mlc-edge.js", Response(b"export{}", media_type="text/javascript"), "isn't the file"),
        (SHARD, Response(b"x" * 65536, 206), "range"),
        (SHARD, Response(b"x" * 10), "isn't the file"),
        (CHAT, Response(b"x", headers={"content-encoding": "br"}), "wasn't asked for"),
        (
            CHAT,
            Response(b"x", media_type="text/\x9b2J"),
            "has the type text/",
        ),
    ],
)
def test_what_breaks_a_site_is_an_error(host: Site, path: str, reply: Response, problem: str):
    host.network.replies["/" + path] = [reply]
    code, found, _ = check(host.url)
    assert code == 1
    assert any(severity == "error" and problem in text for severity, _, text in found)
    assert all(text.isprintable() for _, _, text in found)


def test_both_types_of_scripts_are_right(host: Site, site: Path):
    path = "dist/mlc-edge.js"
    script = Response((site / path).read_bytes(), media_type="application/javascript")
    host.network.replies["/" + path] = [script]
    code, found, _ = check(host.url)
    assert code == 0
    assert not any("type" in problem for _, _, problem in found)


def test_weights_are_hashed_when_everything_is_wanted(host: Site, site: Path):
    shard = site / SHARD
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert check(host.url)[0] == 0
    code, found, _ = check(host.url, "--everything")
    assert code == 1
    assert [(path, text) for _, path, text in found] == [
        (SHARD, "isn't the file that the lock names.")
    ]
    assert len(content) == SHARD_BYTES


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"access-control-allow-origin": ""}, "other origins"),
        ({"cross-origin-resource-policy": "same-origin"}, "cross-origin"),
        ({"cross-origin-resource-policy": "same-site"}, "cross-origin"),
        ({"cache-control": "public, max-age=31536000"}, "365 days"),
        ({"cache-control": "no-store"}, "never cached"),
    ],
)
def test_what_makes_a_site_worse_is_a_warning(host: Site, headers: dict[str, str], problem: str):
    host.network.headers = headers
    code, found, _ = check(host.url)
    assert code == 0
    assert {severity for severity, _, _ in found} == {"warning"}
    assert any(problem.lower() in text.lower() for _, _, text in found)


def test_a_server_that_answers_every_address_is_told(host: Site, site: Path):
    app = host.network.app

    async def portal(scope: Any, receive: Any, send: Any) -> None:
        known = (site / scope["path"].lstrip("/")).is_file()
        page = Response("<html>", media_type="text/html")
        await (app if known else page)(scope, receive, send)

    host.network.app = portal
    code, found, _ = check(host.url)
    assert code == 0
    assert [text for _, _, text in found] == ["doesn't exist and is answered with 200."]


def test_an_address_without_a_site_is_said(host: Site, tmp_path: Path):
    (tmp_path / "mlc-lock.json").write_text("<html>")
    with plain_server(tmp_path) as url:
        done = run_site("--check", url)
        assert done.returncode == 2
        assert "is no JSON" in done.stderr
        done = run_site("--check", f"{url}elsewhere")
        assert done.returncode == 2
        assert "answers 404" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://\u2603.example/",
        "http://../",
        "http://xn--/",
        "http://xn--a.de/",
        "ftp://a/",
        "x",
    ],
)
def test_what_is_no_address_is_told(url: str):
    done = run_site("--check", url)
    assert done.returncode == 2
    assert "expected a folder's address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/site?v=1", "http://127.0.0.1:1/site/#top"])
def test_only_a_folders_address_is_checked(url: str):
    done = run_site("--check", url)
    assert (done.returncode, "expected a folder's address" in done.stderr) == (2, True)


def test_a_password_is_not_repeated(host: Site):
    done = run_site("--check", host.url.replace("://", "://user:secret@"))
    assert done.returncode == 2
    assert "password" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_it_is_asked_as_a_page_of_another_origin(site: Path):
    bundles = tuple(path.parent for path in site.glob("bundles/*/mlc-lock.json"))
    app = create_app(
        HostConfig(bundles=bundles, static=site, embedders=("https://embedding.example",))
    )
    with serving(app) as host:
        assert check(host.url)[:2] == (0, [])


def test_a_lock_of_another_version_is_not_read(host: Site, site: Path):
    lock = json.loads((site / "mlc-lock.json").read_text())
    (site / "mlc-lock.json").write_text(json.dumps({**lock, "site_lock_version": 2}))
    done = run_site("--check", host.url)
    assert done.returncode == 2
    assert "site_lock_version 2, this mlc-edge reads 1" in done.stderr


def test_hostile_answers_are_told_and_not_believed(host: Site):
    bomb = gzip.compress(bytes(64 << 20))
    replies = {
        "deep": (Response("[" * 100_000), "is no JSON"),
        "bomb": (Response(bomb, headers={"content-encoding": "gzip"}), "is no JSON"),
        "brotli": (Response(b"x", headers={"content-encoding": "br"}), "wasn't asked for"),
    }
    for reply, words in replies.values():
        host.network.replies["/mlc-lock.json"] = [reply]
        done = run_site("--check", host.url)
        assert done.returncode == 2
        assert words in done.stderr and "Traceback" not in done.stderr
    host.network.headers = {"cache-control": "max-age=" + "9" * 5000}
    assert check(host.url)[0] == 0
