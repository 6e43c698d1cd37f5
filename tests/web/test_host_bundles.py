"""The list of bundles, and what happens when one is wrong or changes."""

import json
from pathlib import Path

import httpx
import pytest

from mlc_edge.errors import BundleError, ConfigError
from tests.web.conftest import SHARD
from tests.web.fakes import LIBRARY, sha256, write_app, write_bundle
from tests.web.serving import get, serving
from web.host import HostConfig, create_app


def page(tmp_path: Path) -> Path:
    return write_app(tmp_path / "static", {"index.html": b"page"})


def test_index_describes_each_bundle(http: httpx.Client):
    lock = http.get("/bundles/fake-q4f32_1/mlc-lock.json").json()
    assert http.get("/bundles/index.json").json() == {
        "bundles": [
            {
                "id": "fake-q4f32_1",
                "url": "bundles/fake-q4f32_1/",
                "bytes": sum(file["bytes"] for file in lock["files"]),
                "model_type": "llama",
                "quantization": "q4f32_1",
                "context_window_size": 1024,
            }
        ]
    }


def test_every_file_of_the_lock_is_served_as_it_says(http: httpx.Client):
    for file in http.get("/bundles/fake-q4f32_1/mlc-lock.json").json()["files"]:
        url = f"/bundles/fake-q4f32_1/{file['path']}?sha256={file['sha256']}"
        content = http.get(url).content
        assert (len(content), sha256(content)) == (file["bytes"], file["sha256"])


def test_health_names_the_bundles(http: httpx.Client):
    assert http.get("/health").json() == {"status": "ok", "bundles": ["fake-q4f32_1"]}


def test_unknown_bundle_and_other_hash_are_not_found(http: httpx.Client):
    assert http.get("/bundles/other/mlc-lock.json").status_code == 404
    url = f"/bundles/fake-q4f32_1/params_shard_0.bin?sha256={'0' * 64}"
    assert http.get(url).status_code == 404


def test_host_without_bundles(tmp_path: Path):
    with serving(create_app(HostConfig(static=page(tmp_path)))) as site:
        assert get(f"{site.url}bundles/index.json").json() == {"bundles": []}


def test_two_bundles_and_one_name(tmp_path: Path):
    roots = (write_bundle(tmp_path / "a", {}), write_bundle(tmp_path / "b", {}))
    with pytest.raises(ConfigError, match="are both named 'fake-q4f32_1'"):
        create_app(HostConfig(bundles=roots, static=page(tmp_path)))


def test_damaged_bundle_names_all_its_problems(tmp_path: Path):
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": SHARD})
    (bundle / "params_shard_0.bin").write_bytes(SHARD[:-1])
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleError) as caught:
        create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))
    assert "params_shard_0.bin" in str(caught.value)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("tokenizer.json", {"model": {"type": "Unheard"}}, "it is no tokenizer"),
        ("tokenizer_config.json", {"chat_template": "{% if %}"}, "is no template"),
        ("tokenizer_config.json", {"chat_template": "{{ 1 / 0 }}"}, "fails for a plain question"),
        ("mlc-chat-config.json", {"vocab_size": 3}, "vocab_size is 3"),
        ("mlc-chat-config.json", {}, "vocab_size is missing"),
        ("tensor-cache.json", {"records": 5}, "no list of records"),
    ],
)
def test_contents_that_make_no_sense_are_told_at_the_start(
    tmp_path: Path, path: str, content: object, words: str
):
    bundle = write_bundle(tmp_path / "b", {path: json.dumps(content).encode()})
    with pytest.raises(BundleError, match=words):
        create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))


def test_what_is_no_webassembly_is_not_served(tmp_path: Path):
    bundle = write_bundle(tmp_path / "b", {LIBRARY: b"#!/bin/sh"})
    with pytest.raises(BundleError, match=f"{LIBRARY}: it is no library"):
        create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "é"])
def test_bundle_whose_id_fits_no_url(tmp_path: Path, name: str):
    bundle = write_bundle(tmp_path / "b", {}, name=name)
    with pytest.raises(BundleError, match="URL"):
        create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))


def test_folder_without_a_lock(tmp_path: Path):
    with pytest.raises(BundleError):
        create_app(HostConfig(bundles=(tmp_path,), static=page(tmp_path)))


def test_folder_without_a_page(tmp_path: Path):
    with pytest.raises(ConfigError, match="make web-assets"):
        create_app(HostConfig(static=tmp_path))


def test_rebuilt_bundle_is_served_without_a_restart(tmp_path: Path):
    bundle = write_bundle(tmp_path / "b", {"params_shard_0.bin": b"old"})
    with serving(create_app(HostConfig(bundles=(bundle,), static=page(tmp_path)))) as site:
        base = f"{site.url}bundles/fake-q4f32_1/"
        before = get(f"{base}mlc-lock.json")
        write_bundle(bundle, {"params_shard_0.bin": b"newer"})
        after = get(f"{base}mlc-lock.json", headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200
        new = get(f"{base}params_shard_0.bin?sha256={sha256(b'newer')}")
        assert new.content == b"newer"
        assert get(f"{base}params_shard_0.bin?sha256={sha256(b'old')}").status_code == 404
