"""`mlc-edge web MODEL...`: takes what `mlc-edge run` takes, and serves no code that nobody vouched for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.hub import Hub, serving
from tests.web.fakes import LIBRARY
from tests.web.serving import get
from tests.web.test_command import run, started

MODEL = "acme/fake-q4f32_1"


def libraries(url: str, name: str) -> dict[str, bytes]:
    """The browser libraries that the host serves for a model, by their target."""
    base = f"{url}bundles/{name}/"
    lock = get(f"{base}mlc-lock.json").json()
    return {
        target: get(f"{base}{entry['library']}").content
        for target, entry in lock["targets"].items()
    }


def ids(url: str) -> list[str]:
    return [bundle["id"] for bundle in get(f"{url}bundles/index.json").json()["bundles"]]


def test_without_a_name_the_embedded_model_is_compiled_once(app_folder: Path, tmp_path: Path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    with started("--static", app_folder, "--port", 0, **cache) as (_, url):
        assert ids(url) == ["pocket-q4f16_1"]
        served = libraries(url, "pocket-q4f16_1")
        classes = ("webgpu", "webgpu-software")
        assert set(served) == {f"{name}-{dtype}" for name in classes for dtype in ("f32", "f16")}
        assert all(content.startswith(b"\0asm") for content in served.values())
    # Now it needs no compiler.
    with started("--static", app_folder, "--port", 0, PATH="", **cache) as (_, url):
        assert libraries(url, "pocket-q4f16_1") == served


def test_a_bundle_for_another_device_is_compiled_for_browsers(
    app_folder: Path, bundle: Path, tiny_bundle: Path, tmp_path: Path
):
    options = ("--static", app_folder, "--port", 0)
    with started(tiny_bundle, bundle, *options, XDG_CACHE_HOME=str(tmp_path)) as (_, url):
        assert ids(url) == ["tiny-q0f32", "fake-q4f32_1"]
        assert set(libraries(url, "tiny-q0f32")) == {"webgpu-f32", "webgpu-software-f32"}


@pytest.fixture
def hub(bundle: Path) -> Iterator[Hub]:
    with serving() as hub:
        hub.add_folder(MODEL, bundle)
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Its environment: it can't compile anything."""
    return {
        "HF_ENDPOINT": hub.url.rstrip("/"),
        "HF_HOME": str(tmp_path / "hub"),
        "MLC_EDGE_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": "",
    }


def test_code_from_the_hub_is_not_served(hub: Hub, machine: dict[str, str], app_folder: Path):
    done = run(f"HF://{MODEL}", "--static", app_folder, "--port", 0, **machine)
    assert done.returncode == 2
    assert "compiling the model failed" in done.stderr
    assert LIBRARY not in hub.fetched()


def test_code_from_the_hub_is_served_if_a_person_says_so(
    hub: Hub, machine: dict[str, str], app_folder: Path
):
    options = (f"HF://{MODEL}", "--trust-library", "--static", app_folder, "--port", 0)
    with started(*options, **machine) as (_, url):
        assert libraries(url, "fake-q4f32_1") == {
            "webgpu-f32": hub.repositories[MODEL].files[LIBRARY]
        }
        weights = get(f"{url}bundles/fake-q4f32_1/params_shard_0.bin").content
        assert weights == hub.repositories[MODEL].files["params_shard_0.bin"]


def test_a_page_that_is_missing_is_told_before_anything_is_compiled(tmp_path: Path):
    done = run("--static", tmp_path, "--port", 0, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "holds no built page" in done.stderr
    assert not (tmp_path / "mlc-edge").exists()
