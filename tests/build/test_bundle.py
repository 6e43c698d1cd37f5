import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import (
    ABI_VERSION,
    LOCK_NAME,
    BundleLock,
    BundleTarget,
    ModelInfo,
    Needs,
    lock_files,
    parse_lock,
    read_lock,
    verify,
    write_lock,
)
from mlc_edge.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "webgpu-f32.wasm").write_bytes(b"code")
    (tmp_path / "tensor-cache.json").write_text("{}")
    needs = Needs(("shader-f16",), {"maxBufferSize": 5})
    write_lock(
        tmp_path,
        BundleLock(
            model=ModelInfo("tiny", "llama", "q4f32_1", 256, 1000),
            files=lock_files(tmp_path),
            targets={
                "webgpu-f32": BundleTarget("lib/webgpu-f32.wasm", "tensor-cache.json", 7, needs)
            },
            build_inputs="ab",
        ),
    )
    return tmp_path


def content_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / LOCK_NAME).read_text())


def test_a_lock_reads_back_as_it_was_written(bundle: Path):
    lock = verify(bundle)
    assert parse_lock(json.loads(lock.to_json())) == lock
    assert [file.path for file in lock.files] == ["lib/webgpu-f32.wasm", "tensor-cache.json"]
    assert lock.files[0].bytes == 4
    assert lock.targets["webgpu-f32"].needs.features == ("shader-f16",)


def test_the_lock_has_the_documented_fields(bundle: Path):
    content = content_of(bundle)
    assert content["lock_version"] == 1
    assert content["abi_version"] == ABI_VERSION
    assert content["targets"]["webgpu-f32"] == {
        "library": "lib/webgpu-f32.wasm",
        "parameters": "tensor-cache.json",
        "parameter_bytes": 7,
        "needs": {"features": ["shader-f16"], "limits": {"maxBufferSize": 5}},
    }


def test_changed_and_missing_files_are_all_named(bundle: Path):
    (bundle / "lib" / "webgpu-f32.wasm").write_bytes(b"edoc")
    (bundle / "tensor-cache.json").unlink()
    with pytest.raises(BundleError) as caught:
        verify(bundle)
    assert "lib/webgpu-f32.wasm has another SHA-256" in str(caught.value)
    assert "tensor-cache.json is missing" in str(caught.value)


def test_links_pipes_and_devices_are_refused_without_waiting(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory
):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "tensor-cache.json").write_text("{}")
    (bundle / "tensor-cache.json").unlink()
    (bundle / "tensor-cache.json").symlink_to(outside / "tensor-cache.json")
    library = bundle / "lib/webgpu-f32.wasm"
    library.rename(outside / library.name)
    os.mkfifo(library)
    with pytest.raises(BundleError) as caught:
        verify(bundle)
    assert "tensor-cache.json is a link" in str(caught.value)
    assert "lib/webgpu-f32.wasm is no plain file" in str(caught.value)
    library.unlink()
    library.parent.rmdir()
    library.parent.symlink_to(outside)
    with pytest.raises(BundleError, match=r"lib/webgpu-f32\.wasm is behind a link"):
        verify(bundle)


def test_a_lock_that_is_a_pipe_or_endless_is_refused(bundle: Path):
    lock = bundle / LOCK_NAME
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(BundleError, match="no plain file"):
        read_lock(bundle)
    lock.unlink()
    lock.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="is a link"):
        read_lock(bundle)
    lock.unlink()
    with lock.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="has more than"):
        read_lock(bundle)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "a\\b", "", ".", "a//b", "./a", "a\0b", "C:x"]
)
def test_paths_that_leave_the_bundle_are_refused(bundle: Path, path: str):
    content = content_of(bundle)
    content["files"].insert(0, {**content["files"][0], "path": path})
    with pytest.raises(BundleError, match=r"files\[0\]\.path .* is not a path inside the bundle"):
        parse_lock(content)


def test_all_problems_of_a_lock_are_in_one_error(bundle: Path):
    content = content_of(bundle)
    content["files"][0]["sha256"] = "xyz"
    content["files"][1]["bytes"] = -1
    content["model"]["quantization"] = 4
    del content["targets"]["webgpu-f32"]["library"]
    with pytest.raises(BundleError) as caught:
        parse_lock(content)
    for part in ("files[0].sha256", "files[1].bytes", "model.quantization", "library is missing"):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["library", "parameters"])
def test_a_target_must_name_files_of_the_bundle(bundle: Path, kind: str):
    content = content_of(bundle)
    content["targets"]["webgpu-f32"][kind] = "another"
    with pytest.raises(BundleError, match="names another, which files does not"):
        parse_lock(content)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"lock_version": 2}', "[" * 100_000, '{"lock_version": NaN}']
)
def test_what_is_no_lock_is_refused(bundle: Path, text: str):
    (bundle / LOCK_NAME).write_text(text)
    with pytest.raises(BundleError, match="mlc-edge"):
        read_lock(bundle)


def test_a_folder_without_a_lock_is_no_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match="is not a bundle"):
        read_lock(tmp_path)
