"""Hashes are computed once for each state of a file; the note of that costs time at worst, never trust."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from mlc_edge.bundle import BundleLock, LockedFile, lock_files, read_lock, write_lock
from mlc_edge.errors import BundleError
from mlc_edge.files import TICK_NS
from mlc_edge.models import resolve_model
from mlc_edge.verification import MOST_RECORDS
from tests.build.conftest import run_build
from tests.web.fakes import write_bundle

LARGE_BYTES = 32 << 20


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's records."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("MLC_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/verified"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """With a file that is worth remembering, written a while ago."""
    return settled(write_bundle(tmp_path / "fake-q4f32_1", {"large.bin": bytes(LARGE_BYTES)}))


def settled(bundle: Path) -> Path:
    """`bundle`, once the clock of its file system has gone on since the last write."""
    for path in bundle.rglob("*"):
        while not (now := (bundle.parent / "now")).exists() or (
            now.stat().st_ctime_ns - path.stat().st_ctime_ns < 100_000_000
        ):
            now.unlink(missing_ok=True)
            now.touch()
    return bundle


def bytes_read() -> int:
    """By this process, from files and caches of the system."""
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar: ")[1].split("\n")[0])


def read_by_check(bundle: Path) -> int:
    before = bytes_read()
    resolve_model(bundle)
    return bytes_read() - before


def only_record(records: Path) -> Path:
    (record,) = records.glob("*.json")
    return record


def flip(path: Path, *, inode: bool = False) -> None:
    """Change a byte so that name, size and time of modification stay; with `inode`, as another file."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if inode:
        path.unlink()
        path.write_bytes(content)
    else:
        with path.open("r+b") as file:
            file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_has_not_changed_is_not_read_again(bundle: Path, records: Path):
    assert read_by_check(bundle) > LARGE_BYTES
    assert read_by_check(bundle) < 1 << 20
    assert only_record(records).stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_is_moved_is_not_read_again(bundle: Path):
    read_by_check(bundle)
    assert read_by_check(bundle.rename(bundle.with_name("moved"))) < 1 << 20


@pytest.mark.parametrize("inode", [False, True])
def test_a_file_that_only_looks_unchanged_is_read_again(bundle: Path, inode: bool):
    read_by_check(bundle)
    flip(bundle / "large.bin", inode=inode)
    with pytest.raises(BundleError, match=r"large\.bin has another SHA-256"):
        resolve_model(bundle)


def test_another_lock_is_another_bundle(bundle: Path):
    read_by_check(bundle)
    lock = read_lock(bundle)
    files = tuple(
        LockedFile(file.path, file.bytes, "0" * 64) if file.path == "large.bin" else file
        for file in lock.files
    )
    write_lock(bundle, BundleLock(lock.model, files, lock.targets))
    with pytest.raises(BundleError, match=r"large\.bin has another SHA-256"):
        resolve_model(bundle)


def test_a_file_that_was_written_just_now_is_not_noted(bundle: Path, records: Path):
    """Another write in the same tick of the clock wouldn't show."""
    resolve_model(bundle)
    path, took_ns = bundle / "generation_config.json", TICK_NS
    # On a busy machine the tick may be over before the file is read.
    while took_ns >= TICK_NS:
        started = time.time_ns()
        path.write_bytes(path.read_bytes())
        resolve_model(bundle)
        took_ns = time.time_ns() - started
    noted = json.loads(only_record(records).read_text())["files"]
    assert path.name not in noted
    assert "large.bin" in noted


def test_what_this_machine_built_is_not_read_again(checkpoint: Path, tmp_path: Path):
    output = tmp_path / "tiny-q0f32"
    result = run_build(checkpoint, "--target", "native", "--quant", "q0f32", "-o", output)
    assert result.returncode == 0, result.stderr
    weights = sum(path.stat().st_size for path in output.glob("*.bin"))
    assert weights > 500_000
    assert read_by_check(output) < weights


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": []}', '{"checked_by": 1, "files": {"large.bin": [1]}}', "\0"]
)
def test_a_damaged_record_costs_time_alone(bundle: Path, records: Path, text: str):
    resolve_model(bundle)
    only_record(records).write_text(text)
    assert read_by_check(bundle) > LARGE_BYTES
    assert read_by_check(bundle) < 1 << 20
    only_record(records).write_text(text)
    flip(bundle / "large.bin")
    with pytest.raises(BundleError, match=r"large\.bin has another SHA-256"):
        resolve_model(bundle)


def forged(bundle: Path, records: Path) -> Path:
    """A record that vouches for the files as they are now."""
    record = only_record(records)
    content: Any = json.loads(record.read_text())
    status = (bundle / "large.bin").stat()
    content["files"]["large.bin"] = [
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    ]
    record.write_text(json.dumps(content))
    return record


@pytest.mark.parametrize("how", ["writable", "foreign", "link"])
def test_a_record_that_others_could_write_is_not_believed(
    bundle: Path, records: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    resolve_model(bundle)
    flip(bundle / "large.bin")
    record = forged(settled(bundle), records)
    # The forgery is good: it is the owner that counts.
    resolve_model(bundle)
    if how == "writable":
        record.chmod(0o666)
    elif how == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        record.symlink_to(record.rename(tmp_path / "record"))
    with pytest.raises(BundleError, match=r"large\.bin has another SHA-256"):
        resolve_model(bundle)


def test_where_nothing_can_be_kept_all_is_read_each_time(bundle: Path, records: Path):
    records.parent.mkdir()
    records.write_text("in the way")
    for _ in range(2):
        assert read_by_check(bundle) > LARGE_BYTES


def test_a_service_keeps_records_in_its_state_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'state'}:{tmp_path / 'other'}")
    resolve_model(bundle)
    assert only_record(tmp_path / "state/verified").stat().st_size > 0


def test_old_records_are_forgotten(bundle: Path, records: Path):
    resolve_model(bundle)
    for number in range(MOST_RECORDS + 5):
        old = records / f"{number}.json"
        old.write_text("{}")
        os.utime(old, (number, number))
    (bundle / "new.txt").write_text("new")
    lock = read_lock(bundle)
    write_lock(bundle, BundleLock(lock.model, lock_files(bundle), lock.targets))
    resolve_model(bundle)
    assert len(list(records.iterdir())) == MOST_RECORDS
    assert not (records / "0.json").exists()


def test_a_copy_is_a_bundle_of_its_own(bundle: Path, tmp_path: Path):
    resolve_model(bundle)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    flip(copy / "large.bin")
    with pytest.raises(BundleError, match=r"large\.bin has another SHA-256"):
        resolve_model(copy)
    resolve_model(bundle)
