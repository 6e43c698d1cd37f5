"""HF://owner/name: downloaded whole, resumed, kept, and explained where it fails."""

import os
import threading
import time
from pathlib import Path

import pytest

from tests.models.conftest import MODEL, Machine
from tests.models.hub import Hub
from tests.models.resolve import TRUST

DEADLINE_S = 60
# The Hub's client writes 10 MB at a time.
LARGE_BYTES = 24 << 20
NAME = f"HF://{MODEL}"


@pytest.fixture
def published(hub: Hub, bundle: Path) -> Hub:
    """The hub with a bundle, which needs no compiler."""
    hub.add_folder(MODEL, bundle)
    return hub


def large_file(hub: Hub) -> str:
    files = hub.repositories[MODEL].files
    return max(files, key=lambda name: len(files[name]))


def assert_whole(folder: Path, bundle: Path) -> None:
    for path in bundle.rglob("*"):
        if path.is_file():
            assert (folder / path.relative_to(bundle)).read_bytes() == path.read_bytes()


def error_of(machine: Machine, model: str, **environment: str) -> str:
    """What `mlc-edge chat` says; nothing else is printed."""
    done = machine.chat(model, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.strip().splitlines()[-1]


def test_a_bundle_arrives_whole_with_progress(published: Hub, machine: Machine, bundle: Path):
    result = machine.resolve(NAME, TRUST)
    assert_whole(Path(result["bundle"]), bundle)
    shares = [share for step, share in result["steps"] if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert {step for step, _ in result["steps"]} == {f"downloading {MODEL}"}


def test_a_checkpoint_is_compiled_under_the_repositorys_name(
    hub: Hub, machine: Machine, checkpoint: Path
):
    hub.add_folder(MODEL, checkpoint)
    result = machine.resolve(NAME)
    assert Path(result["bundle"]).name == "tiny-q4f16_1"
    assert machine.chat(NAME).returncode == 0


def test_code_and_duplicates_stay_where_they_are(published: Hub, machine: Machine):
    harmful = {"pytorch_model.bin": b"pickle", "modeling.py": b"raise SystemExit"}
    duplicates = {"consolidated.safetensors": b"again", "onnx/model.safetensors": b"again"}
    published.repositories[MODEL].files |= harmful | duplicates
    machine.resolve(NAME, TRUST)
    assert not {*harmful, *duplicates} & set(published.fetched())


def test_a_broken_connection_is_resumed_where_it_broke(published: Hub, machine: Machine):
    name, content = "large.safetensors", os.urandom(LARGE_BYTES)
    published.repositories[MODEL].files[name] = content
    published.broken[name] = LARGE_BYTES * 2 // 3
    folder = Path(machine.resolve(NAME, TRUST)["bundle"])
    assert (folder / name).read_bytes() == content
    first, second = (
        first for method, file, first in published.requests if (method, file) == ("GET", name)
    )
    assert first == 0
    assert second > 0


def test_a_killed_download_goes_on_with_the_missing_files(
    published: Hub, machine: Machine, bundle: Path
):
    name = large_file(published)
    others = {Path(file).name for file in published.repositories[MODEL].files if file != name}
    published.held[name] = threading.Event()
    with machine.start(NAME, TRUST) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not (others <= machine.downloaded() and name in published.fetched()):
            assert time.monotonic() < deadline
            process.poll()
            assert process.returncode is None, process.communicate()
            time.sleep(0.02)
        process.kill()
    published.held.pop(name).set()
    published.requests.clear()
    assert_whole(Path(machine.resolve(NAME, TRUST)["bundle"]), bundle)
    assert published.fetched() == [name]


def test_what_is_cached_is_used_without_a_network(published: Hub, machine: Machine):
    bundle = machine.resolve(NAME, TRUST)["bundle"]
    published.is_down = True
    published.requests.clear()
    assert machine.resolve(NAME, TRUST)["bundle"] == bundle
    assert machine.chat(NAME, TRUST, HF_HUB_OFFLINE="1").returncode == 0
    assert machine.chat(NAME, TRUST, HF_ENDPOINT="http://127.0.0.1:9").returncode == 0
    assert not published.requests


def test_a_new_version_is_fetched(published: Hub, machine: Machine, bundle: Path):
    machine.resolve(NAME, TRUST)
    published.repositories[MODEL].files["generation_config.json"] = b'{"temperature": 0.1}'
    published.repositories[MODEL].relock()
    second = Path(machine.resolve(NAME, TRUST)["bundle"])
    assert "0.1" in (second / "generation_config.json").read_text()


def test_a_revision_is_fetched_by_name(published: Hub, machine: Machine):
    commit = published.repositories[MODEL].commit
    assert Path(machine.resolve(f"{NAME}@{commit}", TRUST)["bundle"]).name == commit


def test_errors_say_what_to_do(published: Hub, machine: Machine):
    assert "there is no repository acme/none" in error_of(machine, "HF://acme/none")
    assert "has no revision 'v9'" in error_of(machine, f"{NAME}@v9")
    assert "write HF://owner/name" in error_of(machine, "HF://acme")
    assert "write HF://owner/name" in error_of(machine, "HF://acme/-tiny")
    published.repositories[MODEL].gated = True
    assert "is gated: accept its terms" in error_of(machine, NAME)


def test_no_network_and_no_cache_are_an_error(machine: Machine):
    refused = error_of(machine, NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert "not wholly in the cache, and the Hub can't be reached" in refused
    assert "connect to the internet once" in error_of(machine, NAME, HF_HUB_OFFLINE="1")


def test_a_model_larger_than_the_disk_is_refused_at_once(published: Hub, machine: Machine):
    published.repositories[MODEL].claimed_bytes = 1 << 60
    assert "MiB are free: free some" in error_of(machine, NAME)
    assert not published.fetched()


def test_a_repository_without_a_model_is_refused(hub: Hub, machine: Machine, tmp_path: Path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words/notes.json").write_text("{}")
    hub.add_folder(MODEL, tmp_path / "words")
    assert "is neither a bundle" in error_of(machine, NAME)
