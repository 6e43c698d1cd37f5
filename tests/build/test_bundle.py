import copy
import json
import os
import time
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
from tests.golden import make

GOLDEN = json.loads((make.FOLDER / "lock.json").read_text())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "webgpu-f32.wasm").write_bytes(b"code")
    (tmp_path / "tensor-cache.json").write_text("{}")
    needs = Needs(("shader-f16",), {"maxBufferSize": 5}, {"subgroupMinSize": 32})
    write_lock(
        tmp_path,
        BundleLock(
            model=ModelInfo("tiny", "llama", "q4f32_1", 256, 1000),
            files=lock_files(tmp_path),
            targets={
                "webgpu-f32": BundleTarget(
                    "webgpu", "lib/webgpu-f32.wasm", "tensor-cache.json", 7, needs
                )
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


@pytest.mark.parametrize(
    ("formats", "problem"),
    [
        ([], "model.formats is [], expected dict"),
        ({"q4": "many"}, "model.formats.q4 is 'many', expected int"),
        ({"q4": True}, "model.formats.q4 is True, expected int"),
        ({"q4": -1}, "model.formats.q4 is -1, expected 0 to 9007199254740991"),
        ({"q4\x1b[2J": 1}, "expected printable characters"),
    ],
)
def test_formats_are_counts_by_name(bundle: Path, formats: Any, problem: str):
    content = content_of(bundle)
    content["model"]["formats"] = formats
    with pytest.raises(BundleError) as error:
        parse_lock(content)
    assert problem in str(error.value)


def test_shares_of_formats_are_told_and_crumbs_left_out(bundle: Path):
    content = content_of(bundle)
    content["model"]["formats"] = {"q0": 1, "q4": 7899, "q8": 2100}
    assert parse_lock(content).model.weights == "q4 79%, q8 21%"
    del content["model"]["formats"]
    assert parse_lock(content).model.weights == "q4f32_1"


def test_the_lock_has_the_documented_fields(bundle: Path):
    content = content_of(bundle)
    assert content["lock_version"] == 2
    assert content["abi_version"] == ABI_VERSION
    assert content["targets"]["webgpu-f32"] == {
        "device": "webgpu",
        "library": "lib/webgpu-f32.wasm",
        "parameters": "tensor-cache.json",
        "parameter_bytes": 7,
        "needs": {
            "features": ["shader-f16"],
            "limits": {"maxBufferSize": 5},
            "adapter": {"subgroupMinSize": 32},
        },
    }


def test_locks_of_version_1_are_read(bundle: Path):
    content = content_of(bundle)
    (first,) = content["targets"].values()
    del first["device"], first["needs"]["adapter"]
    libraries = {"webgpu-f32": "lib/a.wasm", "wasm32-simd": "lib/b.wasm", "pi5": "lib/c.so"}
    content["lock_version"] = 1
    content["files"] += [{"path": p, "bytes": 0, "sha256": "c" * 64} for p in libraries.values()]
    content["targets"] = {name: {**first, "library": path} for name, path in libraries.items()}
    targets = parse_lock(content).targets
    assert [target.device for target in targets.values()] == ["webgpu", "wasm", "cpu"]
    assert {tuple(target.needs.adapter) for target in targets.values()} == {()}


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


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: ascii(case["value"])[:40])
def test_fields_are_taken_and_refused_as_by_the_browsers_engine(case: dict[str, Any]):
    content = copy.deepcopy(GOLDEN["lock"])
    inner: Any = content
    *parents, last = case["at"]
    for key in parents:
        inner = inner[key]
    inner[last] = case["value"]
    if case["taken"]:
        parse_lock(content)
        return
    with pytest.raises(BundleError) as caught:
        parse_lock(content)
    assert str(caught.value).isprintable()


def many_files(bundle: Path, count: int) -> dict[str, Any]:
    """A lock that names `count` files."""
    content = content_of(bundle)
    more = range(count - len(content["files"]))
    content["files"] += [{**content["files"][0], "path": f"shards/{index}"} for index in more]
    return content


def test_a_lock_names_so_many_files_and_no_more(bundle: Path):
    assert len(parse_lock(many_files(bundle, 10_000)).files) == 10_000
    with pytest.raises(BundleError, match="names 10001 files, and a bundle has at most 10000"):
        parse_lock(many_files(bundle, 10_001))


def test_the_check_of_a_large_lock_takes_no_time(bundle: Path):
    content = many_files(bundle, 10_000)
    target = {**content["targets"]["webgpu-f32"], "library": "shards/9000"}
    content["targets"] = {f"cpu-{index}": target for index in range(20_000)}
    start = time.monotonic()
    parse_lock(content)
    assert time.monotonic() - start < 4


def test_of_many_problems_ten_are_named_and_the_others_counted(bundle: Path):
    content = many_files(bundle, 40)
    for file in content["files"][5:]:
        file["sha256"] = "xyz"
    with pytest.raises(BundleError, match="; and 25 more") as caught:
        parse_lock(content)
    assert str(caught.value).count("sha256") == 10
    write_lock(bundle, parse_lock(many_files(bundle, 40)))
    with pytest.raises(BundleError, match="; and 28 more") as caught:
        verify(bundle)
    assert str(caught.value).count("is missing") == 10


def test_a_lock_of_other_build_inputs_than_a_text_that_can_be_shown_is_refused(bundle: Path):
    content = {**content_of(bundle), "build_inputs": "\ud800"}
    with pytest.raises(BundleError, match="build_inputs"):
        parse_lock(content)


@pytest.mark.parametrize("kind", ["library", "parameters"])
def test_a_target_must_name_files_of_the_bundle(bundle: Path, kind: str):
    content = content_of(bundle)
    content["targets"]["webgpu-f32"][kind] = "another"
    with pytest.raises(BundleError, match="names another, which files does not"):
        parse_lock(content)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"lock_version": 3}', "[" * 100_000, '{"lock_version": NaN}']
)
def test_what_is_no_lock_is_refused(bundle: Path, text: str):
    (bundle / LOCK_NAME).write_text(text)
    with pytest.raises(BundleError, match="mlc-edge"):
        read_lock(bundle)


def test_a_folder_without_a_lock_is_no_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match="is not a bundle"):
        read_lock(tmp_path)
