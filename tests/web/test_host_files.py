"""How one file is served: type, validators, caching, ranges, compression."""

import gzip

import brotli
import httpx
import pytest

from tests.web.conftest import APP, SCRIPT, SHARD
from tests.web.fakes import LIBRARY, sha256

SHARD_URL = "/bundles/fake-q4f32_1/params_shard_0.bin"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/dist/chat-ABCD1234.js", "text/javascript; charset=utf-8"),
        ("/service-worker.js", "text/javascript; charset=utf-8"),
        ("/dist/font-ABCD1234.woff2", "font/woff2"),
        ("/icon.svg", "image/svg+xml"),
        ("/app-lock.json", "application/json"),
        (f"/bundles/fake-q4f32_1/{LIBRARY}", "application/wasm"),
        (SHARD_URL, "application/octet-stream"),
    ],
)
def test_media_type(http: httpx.Client, path: str, media_type: str):
    response = http.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type


def test_head_has_the_headers_of_get_and_no_body(http: httpx.Client):
    head, get = http.head(SHARD_URL), http.get(SHARD_URL)
    assert head.status_code == 200
    assert head.content == b""
    assert get.content == SHARD
    for name in ("content-length", "content-type", "etag", "cache-control", "accept-ranges"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(http: httpx.Client, method: str):
    assert http.request(method, "/").status_code == 405
    assert http.request(method, SHARD_URL).status_code == 405


@pytest.mark.parametrize(
    ("path", "cache_control"),
    [
        ("/", "no-cache"),
        ("/service-worker.js", "no-cache"),
        ("/dist/mlc-edge.js", "no-cache"),
        ("/dist/font-ABCD1234.woff2", "public, max-age=31536000, immutable"),
        ("/dist/chat-ABCD1234.js", "public, max-age=31536000, immutable"),
        (SHARD_URL, "no-cache"),
        (f"{SHARD_URL}?sha256={sha256(SHARD)}", "public, max-age=31536000, immutable"),
        ("/bundles/fake-q4f32_1/mlc-lock.json", "no-cache"),
        ("/bundles/index.json", "no-cache"),
        ("/health", "no-store"),
    ],
)
def test_cache_control(http: httpx.Client, path: str, cache_control: str):
    assert http.get(path).headers["cache-control"] == cache_control


@pytest.mark.parametrize(("path", "content"), [("/", APP["index.html"]), (SHARD_URL, SHARD)])
def test_etag_is_the_hash_and_saves_the_body(http: httpx.Client, path: str, content: bytes):
    etag = http.get(path).headers["etag"]
    assert etag == f'"{sha256(content)}"'
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = http.get(path, headers={"if-none-match": value})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
        assert "cache-control" in response.headers
    assert http.get(path, headers={"if-none-match": '"other"'}).content == content


SIZE = len(SHARD)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=100-", 100, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        (f"bytes=-{SIZE + 5}", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 1000}", SIZE - 1, SIZE),
        (f"bytes=0-{SIZE - 1}", 0, SIZE),
    ],
)
def test_range(http: httpx.Client, asked: str, start: int, end: int):
    response = http.get(SHARD_URL, headers={"range": asked})
    assert response.status_code == 206
    assert response.content == SHARD[start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert response.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 1}-{SIZE + 2}"])
def test_range_beyond_the_end(http: httpx.Client, asked: str):
    response = http.get(SHARD_URL, headers={"range": asked})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=", "bytes=x-y"])
def test_malformed_range_is_refused(http: httpx.Client, asked: str):
    assert http.get(SHARD_URL, headers={"range": asked}).status_code == 400


def test_unknown_range_unit_is_ignored(http: httpx.Client):
    response = http.get(SHARD_URL, headers={"range": "lines=1-2"})
    assert (response.status_code, response.content) == (200, SHARD)


def test_if_range_gives_the_rest_only_of_the_same_file(http: httpx.Client):
    etag = http.head(SHARD_URL).headers["etag"]
    same = http.get(SHARD_URL, headers={"range": "bytes=10-", "if-range": etag})
    assert (same.status_code, same.content) == (206, SHARD[10:])
    for other in ('"other"', f"W/{etag}"):
        whole = http.get(SHARD_URL, headers={"range": "bytes=10-", "if-range": other})
        assert (whole.status_code, whole.content) == (200, SHARD)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("BR", "br"),
        ("*", "br"),
        ("br;q=0, *;q=0.1", "gzip"),
        ("br;q=wrong", None),
        ("identity", None),
        ("", None),
    ],
)
def test_compressed_variants(http: httpx.Client, accepted: str, encoding: str | None):
    headers = {"accept-encoding": accepted}
    with http.stream("GET", "/dist/chat-ABCD1234.js", headers=headers) as response:
        raw = b"".join(response.iter_raw())
    decode = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}[encoding]
    assert decode(raw) == SCRIPT
    assert response.headers.get("content-encoding") == encoding
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["content-length"] == str(len(raw))
    suffix = f"-{encoding}" if encoding else ""
    assert response.headers["etag"] == f'"{sha256(SCRIPT)}{suffix}"'
    again = http.get(
        "/dist/chat-ABCD1234.js", headers={**headers, "if-none-match": response.headers["etag"]}
    )
    assert again.status_code == 304


def test_ranges_are_of_the_uncompressed_file(http: httpx.Client):
    headers = {"accept-encoding": "br", "range": "bytes=5-24"}
    response = http.get("/dist/chat-ABCD1234.js", headers=headers)
    assert (response.status_code, response.content) == (206, SCRIPT[5:25])
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("path", "compressed"),
    [
        (SHARD_URL, False),
        ("/icon.svg", False),
        ("/bundles/fake-q4f32_1/tokenizer.json", True),
        (f"/bundles/fake-q4f32_1/{LIBRARY}", True),
    ],
)
def test_only_what_gets_smaller_is_compressed(http: httpx.Client, path: str, compressed: bool):
    response = http.get(path, headers={"accept-encoding": "br"})
    assert ("content-encoding" in response.headers) is compressed
    assert ("vary" in response.headers) is compressed
