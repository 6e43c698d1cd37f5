"""The folder that `mlc-edge site` writes: whole, relocatable, named and hashed."""

import base64
import csv
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.errors import ConfigError
from tests.web.site.conftest import run_site
from web.site.lock import bundle_folders


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lock(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "mlc-lock.json").read_text())


def test_the_lock_names_every_file_with_size_and_hash(site: Path):
    found = {file["path"]: file for file in lock(site)["files"]}
    files = content(site)
    assert set(found) == set(files) - {"mlc-lock.json", "_headers"}
    for path, file in found.items():
        assert file["bytes"] == len(files[path])
        assert file["sha256"] == hashlib.sha256(files[path]).hexdigest()
    assert {"index.html", "service-worker.js", "dist/mlc-edge.js"} <= set(found)
    assert "page.html" not in found
    assert lock(site)["abi"].keys() == {"version", "date"}


def test_scripts_and_styles_have_integrity_values(site: Path):
    for file in lock(site)["files"]:
        if not file["path"].endswith((".js", ".css")):
            assert "integrity" not in file
            continue
        digest = hashlib.sha256((site / file["path"]).read_bytes()).digest()
        assert file["integrity"] == "sha256-" + base64.b64encode(digest).decode()


def test_the_wheel_s_record_names_every_file_with_size_and_hash(site: Path):
    (path,) = site.glob("dist/*.whl")
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    rows = list(csv.reader(io.StringIO(files[record].decode())))
    digests = {name: hashlib.sha256(content).digest() for name, content in files.items()}
    unpadded = {
        name: base64.urlsafe_b64encode(d).decode().strip("=") for name, d in digests.items()
    }
    assert sorted(rows) == sorted(
        [name, "", ""]
        if name == record
        else [name, f"sha256={unpadded[name]}", str(len(files[name]))]
        for name in files
    )


def test_models_are_listed_and_whole(site: Path, sources: tuple[Path, Path]):
    (entry,) = json.loads((site / "bundles/index.json").read_text())["bundles"]
    assert entry["id"] == "fake-q4f32_1"
    assert content(site / entry["url"]) == content(sources[1])


def test_the_same_site_is_the_same_bytes_and_replaces_the_former(
    site: Path, sources: tuple[Path, Path]
):
    before = content(site)
    app = site.parent / "app"
    shutil.copytree(sources[0], app)
    (app / "dist/older.js").write_text("of an older version")
    assert run_site(site, sources[1], "--static", app).returncode == 0
    assert "dist/older.js" in content(site)
    assert run_site(site, sources[1], "--static", sources[0]).returncode == 0
    assert content(site) == before
    assert not list(site.parent.glob(".*"))


def test_what_others_put_beside_the_site_is_not_deleted(site: Path, sources: tuple[Path, Path]):
    (site / ".git").mkdir()
    (site / ".git/HEAD").write_text("ref: refs/heads/main")
    done = run_site(site, sources[1], "--static", sources[0])
    assert done.returncode == 2
    assert "'.git', which would be deleted" in " ".join(done.stderr.split())
    assert (site / ".git/HEAD").is_file() and (site / "mlc-lock.json").is_file()


@pytest.mark.parametrize("name", ["media", "empty"])
def test_nor_are_links_and_empty_folders(
    site: Path, sources: tuple[Path, Path], tmp_path: Path, name: str
):
    if name == "media":
        (site / name).symlink_to(tmp_path, target_is_directory=True)
    else:
        (site / name).mkdir()
    done = run_site(site, sources[1], "--static", sources[0])
    assert done.returncode == 2
    assert f"'{name}', which would be deleted" in " ".join(done.stderr.split())
    assert (site / name).is_dir()


def test_a_site_can_be_made_of_a_site(site: Path, sources: tuple[Path, Path], tmp_path: Path):
    assert run_site(tmp_path / "copy", sources[1], "--static", site).returncode == 0
    assert content(tmp_path / "copy") == content(site)


@pytest.mark.parametrize("name", ["a#b.txt", "new\nline.txt", "per%20cent.txt"])
def test_names_that_addresses_cannot_carry_are_refused(
    name: str, sources: tuple[Path, Path], tmp_path: Path
):
    shutil.copytree(sources[0], tmp_path / "app")
    (tmp_path / "app" / name).write_text("")
    done = run_site(tmp_path / "site", sources[1], "--static", tmp_path / "app")
    assert done.returncode == 2
    assert "URLs can't carry" in done.stderr
    assert not (tmp_path / "site").exists()


def test_no_link_is_followed(sources: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(sources[0], tmp_path / "app")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "app/leak.txt").symlink_to(tmp_path / "secret")
    done = run_site(tmp_path / "site", sources[1], "--static", tmp_path / "app")
    assert done.returncode == 2
    assert "no plain file" in done.stderr


def test_nothing_else_is_overwritten(tmp_path: Path, sources: tuple[Path, Path]):
    (tmp_path / "photo.jpg").write_bytes(b"holiday")
    done = run_site(tmp_path, sources[1], "--static", sources[0])
    assert done.returncode == 2
    assert "holds something other than a site" in done.stderr
    # A bundle's lock has the same name.
    done = run_site(sources[1], sources[1], "--static", sources[0])
    assert done.returncode == 2
    assert (sources[1] / "params_shard_0.bin").is_file()


def test_a_damaged_bundle_leaves_no_site(tmp_path: Path, sources: tuple[Path, Path]):
    damaged = tmp_path / "damaged"
    shutil.copytree(sources[1], damaged)
    (damaged / "params_shard_1.bin").write_bytes(b"y")
    done = run_site(tmp_path / "site", damaged, "--static", sources[0])
    assert done.returncode == 2
    assert "params_shard_1.bin" in done.stderr
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("id", ["../elsewhere", "..", "a/b", 7])
def test_an_index_names_nothing_outside_of_its_site(site: Path, id: Any):
    (site / "bundles/index.json").write_text(json.dumps({"bundles": [{"id": id}]}))
    with pytest.raises(ConfigError, match="is no id"):
        bundle_folders(site)


def test_headers_are_for_the_path_where_the_folder_lies(site: Path, sources: tuple[Path, Path]):
    assert run_site(site, sources[1], "--static", sources[0], "--at", "/chat/").returncode == 0
    blocks = (site / "_headers").read_text().strip().split("\n\n")
    rules = {
        path: dict(h.strip().split(": ", 1) for h in headers)
        for path, *headers in map(str.splitlines, blocks)
    }
    assert all(path.startswith("/chat/") for path in rules)
    assert rules["/chat/*"]["access-control-allow-origin"] == "*"
    assert "frame-ancestors 'none'" in rules["/chat/"]["content-security-policy"]
    assert "immutable" in rules["/chat/dist/chat-ABCDEFGH.js"]["cache-control"]
    assert "sandbox" in rules["/chat/dist/diagram-ABCDEFGH.html"]["content-security-policy"]
    assert "immutable" in rules["/chat/dist/math-KaTeX*"]["cache-control"]
    assert "immutable" in rules["/chat/bundles/fake-q4f32_1/params_shard_*"]["cache-control"]
    assert rules["/chat/service-worker.js"]["cache-control"] == "no-cache"
    assert rules["/chat/bundles/fake-q4f32_1/mlc-lock.json"]["cache-control"] == "no-cache"
    (wheel,) = site.glob("dist/*.whl")
    assert rules[f"/chat/dist/{wheel.name}"]["cache-control"] == "no-cache"
    assert "/chat/dist/mlc-edge.js" not in rules


def test_it_says_how_pages_of_other_origins_can_load_it(sources: tuple[Path, Path], tmp_path: Path):
    done = run_site(tmp_path / "site", sources[1], "--static", sources[0])
    assert "Access-Control-Allow-Origin: *" in done.stdout
    assert f"mlc-edge web --site {tmp_path / 'site'} --embed '*'" in done.stdout


def test_what_is_asked_wrongly_is_told(tmp_path: Path):
    for arguments, words in [
        ((), "name the folder"),
        ((tmp_path / "site", "--at", "chat"), "--at"),
        ((tmp_path / "site", "--check", "http://localhost"), "leave out the folder"),
        (("--check", "localhost:8000"), "https://"),
        (("--check", "http://127.0.0.1:9/"), "can't be fetched"),
    ]:
        done = run_site(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
