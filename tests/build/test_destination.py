import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_edge.errors import ConfigError
from mlc_edge.folders import replacing
from webbuild.destination import check_space


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_and_be_interrupted(output: Path) -> None:
    with replacing(output) as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    return folder


def test_a_folder_is_replaced_as_a_whole(output: Path):
    with replacing(output) as folder:
        (folder / "new").touch()
        assert names(output) == ["old"]
    assert names(output) == ["new"]
    assert names(output.parent) == ["out"]


def test_an_error_leaves_the_folder_as_it_was(output: Path):
    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted(output)
    assert names(output) == ["old"]
    assert names(output.parent) == ["out"]


def test_a_build_killed_between_its_renames_is_undone(output: Path):
    former = output.rename(output.with_name(".out.former"))
    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted(output)
    assert names(output) == ["old"]
    assert not former.exists()


def test_the_former_bundle_is_back_while_the_next_build_runs(output: Path):
    output.rename(output.with_name(".out.former"))
    with replacing(output) as folder:
        (folder / "new").touch()
        assert names(output) == ["old"]
    assert names(output) == ["new"]


def test_of_many_processes_each_writes_or_is_told_to_wait(tmp_path: Path):
    code = (
        "import sys, pathlib, mlc_edge.folders as f, mlc_edge.errors as e\n"
        "for _ in range(40):\n"
        " try:\n"
        "  with f.replacing(pathlib.Path(sys.argv[1])) as folder: (folder / 'x').touch()\n"
        " except e.ConfigError: pass\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("place", [".out.partial", ".out.former"])
def test_what_a_link_leads_to_stays(output: Path, tmp_path: Path, place: str):
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    output.with_name(place).symlink_to(other, target_is_directory=True)
    with pytest.raises(ConfigError, match=f"{place} is in the way"), replacing(output):
        pass
    assert names(other) == ["precious"]
    assert names(output) == ["old"]


def test_nothing_is_written_into_another_users_folder(
    output: Path, monkeypatch: pytest.MonkeyPatch
):
    output.with_name(".out.partial").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="another user's"), replacing(output):
        pass
    assert names(output) == ["old"]


def test_what_a_build_killed_at_its_very_end_left_hinders_no_other(output: Path):
    former = output.with_name(".out.former")
    former.mkdir()
    (former / "older").touch()
    with replacing(output) as folder:
        (folder / "new").touch()
    assert names(output) == ["new"]
    assert names(output.parent) == ["out"]


def test_a_bundle_that_cannot_be_put_in_place_leaves_the_former_one(output: Path):
    with pytest.raises(FileNotFoundError), replacing(output) as folder:
        folder.rmdir()
    assert names(output) == ["old"]
    assert names(output.parent) == ["out"]


def test_leftovers_of_a_killed_build_are_not_taken_over(output: Path):
    leftover = output.with_name(".out.partial")
    (leftover / "lib").mkdir(parents=True)
    (leftover / "lib" / "half").touch()
    with replacing(output) as folder:
        assert names(folder) == []
    assert names(output) == []


def test_two_builds_do_not_share_a_folder(output: Path):
    with replacing(output) as folder:
        (folder / "new").touch()
        with pytest.raises(ConfigError, match="another process"), replacing(output):
            pass
    assert names(output) == ["new"]


def test_too_little_disk_space_is_told_before_work_begins(tmp_path: Path):
    with pytest.raises(ConfigError, match="not enough disk space") as caught:
        check_space(tmp_path / "out", 1 << 60)
    assert "--output on another disk" in str(caught.value)
