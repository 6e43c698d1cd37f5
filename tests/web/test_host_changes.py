"""Files that change while they are served, and where else the host can be put."""

import gzip
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.models.test_verification import bytes_read
from tests.web.fakes import random_bytes, sha256, write_app, write_bundle
from tests.web.serving import TIMEOUT_S, Site, get, serving
from web.encoding import MAX_BYTES, MIN_BYTES
from web.host import HostConfig, create_app
from web.server import address_url, bind, is_loopback

WEIGHTS = "bundles/fake-q4f32_1/params_shard_0.bin"
LOCK = "bundles/fake-q4f32_1/mlc-lock.json"


def page(tmp_path: Path, **files: bytes) -> Path:
    return write_app(tmp_path / "static", {"index.html": b"page", **files})


def raw(site: Site, path: str, encoding: str) -> tuple[str | None, bytes]:
    """Encoding and bytes as they come."""
    headers = {"accept-encoding": encoding}
    with httpx.stream("GET", f"{site.url}{path}", headers=headers, timeout=TIMEOUT_S) as response:
        assert response.status_code == 200
        return response.headers.get("content-encoding"), b"".join(response.iter_raw())


def test_a_page_that_was_built_again_is_served_anew_in_every_encoding(tmp_path: Path):
    old, new = b"<p>old</p>" * 500, b"<p>new</p>" * 500
    static = page(tmp_path, **{"index.html": old})
    with serving(create_app(HostConfig(static=static))) as site:
        tags = set()
        for content in (old, new):
            (static / "index.html").write_bytes(content)
            for encoding in ("gzip", "br", "identity"):
                response = get(site.url, headers={"accept-encoding": encoding})
                assert response.content == content
                tags.add(response.headers["etag"])
        assert len(tags) == 6


@pytest.mark.parametrize(
    ("size", "encoding"), [(MIN_BYTES - 1, None), (MIN_BYTES, "gzip"), (MAX_BYTES + 1, None)]
)
def test_files_are_compressed_where_it_pays(tmp_path: Path, size: int, encoding: str | None):
    static = page(tmp_path)
    with (static / "large.txt").open("wb") as file:
        file.truncate(size)
    with serving(create_app(HostConfig(static=static))) as site:
        found, content = raw(site, "large.txt", "gzip")
    assert found == encoding
    assert len(gzip.decompress(content) if found else content) == size


def test_many_compressed_files_are_each_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """More than are kept: those that were forgotten are made again."""
    monkeypatch.setattr("web.content.CACHED_VARIANT_BYTES", 10_000)
    files = {f"{n}.txt": random_bytes(4000, seed=n) for n in range(6)}
    app = create_app(HostConfig(static=page(tmp_path, **files)))
    with serving(app) as site:
        for _ in range(2):
            for name, content in files.items():
                found, packed = raw(site, name, "gzip")
                assert found == "gzip"
                assert gzip.decompress(packed) == content


def test_a_damaged_rebuild_leaves_the_old_list_until_a_whole_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("web.bundles.RETRY_S", 0.0)
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": b"old"})
    with serving(create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))) as site:
        before = get(f"{site.url}bundles/index.json").json()
        write_bundle(bundle, {"params_shard_0.bin": b"newer", "tokenizer.json": b"{}"})
        assert get(f"{site.url}bundles/index.json").json() == before
        newer = f"{site.url}{WEIGHTS}?sha256={sha256(b'newer')}"
        assert get(newer).status_code == 404
        write_bundle(bundle, {"params_shard_0.bin": b"newer"})
        assert get(newer).content == b"newer"
        assert get(f"{site.url}bundles/index.json").json() != before


def test_a_damaged_rebuild_is_not_read_for_every_request(tmp_path: Path):
    large = bytes(32 << 20)
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": large})
    with serving(create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))) as site:
        write_bundle(bundle, {"params_shard_0.bin": large + b"1", "tokenizer.json": b"{}"})
        before = bytes_read()
        for _ in range(20):
            assert get(f"{site.url}bundles/index.json").status_code == 200
        assert bytes_read() - before < 5 * len(large)


def test_the_host_works_below_another_path(tmp_path: Path):
    """The headers of a page and of a bundle go with the path inside of it."""
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": b"weights"})
    inner = create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))
    with serving(Starlette(routes=[Mount("/chat", inner)])) as site:
        weights = get(f"{site.url}chat/{WEIGHTS}")
        assert weights.content == b"weights"
        assert weights.headers["access-control-allow-origin"] == "*"
        shown = get(f"{site.url}chat/")
        assert shown.content == b"page"
        assert shown.headers["cross-origin-embedder-policy"] == "require-corp"


def test_the_daemons_api_is_told_to_the_page(tmp_path: Path):
    daemon = {"url": "v1/", "models": []}
    with serving(create_app(HostConfig(static=page(tmp_path), daemon=daemon))) as site:
        assert get(f"{site.url}bundles/index.json").json()["daemon"] == daemon


def test_addresses_are_written_as_urls_have_them():
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_url("127.0.0.1", listener) == f"http://127.0.0.1:{port}/"
        assert address_url("::1", listener) == f"http://[::1]:{port}/"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.com", False),
    ],
)
def test_only_this_machines_addresses_are_loopback(host: str, loopback: bool):
    assert is_loopback(host) is loopback


def test_the_lock_is_never_taken_for_unchanged(tmp_path: Path):
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": b"old"})
    with serving(create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))) as site:
        plain = {"accept-encoding": "identity"}
        first = get(f"{site.url}{LOCK}", headers=plain)
        assert first.headers["etag"] == f'"{sha256((bundle / "mlc-lock.json").read_bytes())}"'
        unchanged = {**plain, "if-none-match": first.headers["etag"]}
        assert get(f"{site.url}{LOCK}", headers=unchanged).status_code == 304
        write_bundle(bundle, {"params_shard_0.bin": b"new"})
        assert get(f"{site.url}{LOCK}", headers=unchanged).status_code == 200
