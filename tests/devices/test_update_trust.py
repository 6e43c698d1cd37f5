"""An update by root among others: what they plant, exchange, offer or hold leads it nowhere else."""

import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_edge.bundle import LOCK_NAME
from tests.build.conftest import ROOT
from tests.devices.conftest import Variant, relock
from tests.devices.updating import layout, linked, update, update_command

OTHER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
Plant = Callable[[Path, Path], None]
# The command, and what somebody else does at the moment at which it makes its first folder.
TAMPERED = """
import sys
from pathlib import Path
from mlc_edge.cli import main
def tamper(event, args):
    if event == "os.mkdir" and args[0] == ".incoming":
        exec({what!r}, {{"bundle": Path({bundle!r})}})
sys.addaudithook(tamper)
main()
"""
# The command, which ends where it says that it begins with this step.
KILLED = """
import os, signal, sys
from mlc_edge.cli import main
step, write = sys.argv.pop(1), sys.stdout.write
def write_until(text):
    if text == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(text)
sys.stdout.write = write_until
main()
"""


def entries(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, owner and content of all that is in a folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, status.st_uid, content)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What isn't the update's: it must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "cpu").mkdir(parents=True)
    (folder / "tokenizer.json").write_text("somebody's own")
    (folder / "tokenizer.json").chmod(0o640)
    folder.chmod(0o750)
    return folder


def folder_with_links(place: Path, outside: Path) -> None:
    place.mkdir()
    (place / "cpu").symlink_to(outside / "cpu")
    (place / "tokenizer.json").symlink_to(outside / "tokenizer.json")
    (place / "inner").mkdir(mode=0o500)


def deep_folder(place: Path, outside: Path) -> None:
    place.mkdir()
    handle = os.open(place, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=handle)
        deeper = os.open("a", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)


PLANTED: dict[str, Plant] = {
    "link": lambda place, outside: place.symlink_to(outside),
    "link to nothing": lambda place, outside: place.symlink_to(outside / "new"),
    "link to a file": lambda place, outside: place.symlink_to(outside / "tokenizer.json"),
    "another name of a file": lambda place, outside: os.link(outside / "tokenizer.json", place),
    "pipe": lambda place, outside: os.mkfifo(place),
    "file": lambda place, outside: place.write_text("planted"),
    "folder": folder_with_links,
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_lies_under_our_names_is_removed_and_not_followed(
    kind: str, models: Path, variant: Variant, outside: Path
) -> None:
    before = entries(outside)
    for name in (".incoming", ".link", "3-third", "9-third"):
        PLANTED[kind](models / name, outside)
    done = update(variant("third"), "--dir", models)
    assert done.returncode == 0, done.stderr
    assert layout(models) == linked("3-third", "2-second")
    assert entries(outside) == before


@pytest.mark.parametrize("name", ["current", "previous", ".lock"])
@pytest.mark.parametrize("kind", PLANTED)
def test_what_lies_where_a_link_or_the_lock_should_be_changes_nothing_else(
    name: str, kind: str, models: Path, variant: Variant, outside: Path
) -> None:
    before = entries(outside)
    (models / name).unlink()
    PLANTED[kind](models / name, outside)
    done = update(variant("third"), "--dir", models)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert entries(outside) == before


@pytest.mark.parametrize("target", ["/etc", "2-second/../../outside", "7-link"])
def test_links_to_elsewhere_are_no_releases(
    target: str, models: Path, variant: Variant, outside: Path
) -> None:
    before = entries(outside)
    (models / "7-link").symlink_to(outside)
    (models / "previous").unlink()
    (models / "previous").symlink_to(target)
    refused = update("--rollback", "--dir", models)
    assert refused.returncode == 2
    assert "no model before this one" in refused.stderr
    assert entries(outside) == before


def test_a_planted_folder_that_is_too_deep_is_an_error_and_no_crash(
    models: Path, variant: Variant, outside: Path
) -> None:
    deep_folder(models / ".incoming", outside)
    done = update(variant("third"), "--dir", models)
    subprocess.run(["rm", "-rf", models / ".incoming"], check=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert ".incoming has too many folders" in " ".join(done.stderr.split())


def own_link_above(models: Path) -> Path:
    (models.parent / "link").symlink_to(models)
    return models.parent / "link"


def foreign_link_above(models: Path) -> Path:
    link = own_link_above(models)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    return link


def inside(mode: int, owner: int = 0) -> Callable[[Path], Path]:
    def move(models: Path) -> Path:
        parent = models.parent / "parent"
        parent.mkdir()
        models = models.rename(parent / "models")
        os.chown(parent, owner, owner)
        parent.chmod(mode)
        return models

    return move


def itself(mode: int, owner: int = 0) -> Callable[[Path], Path]:
    def change(models: Path) -> Path:
        os.chown(models, owner, owner)
        models.chmod(mode)
        return models

    return change


@needs_root
@pytest.mark.parametrize(
    ("prepare", "refusal"),
    [
        (itself(0o755, OTHER), "models belongs to another user"),
        (inside(0o755, OTHER), "parent belongs to another user"),
        (inside(0o775), "write to"),
        (inside(0o757), "write to"),
        (foreign_link_above, "link belongs to another user"),
        (own_link_above, None),
        (inside(0o1777), None),
        (itself(0o777), None),
        (itself(0o1777), None),
        (itself(0o775), None),
    ],
)
def test_a_folder_that_others_could_exchange_is_refused_or_closed(
    prepare: Callable[[Path], Path], refusal: str | None, models: Path, variant: Variant
) -> None:
    given = prepare(models)
    before = layout(given)
    done = update(variant("third"), "--dir", given)
    if refusal:
        assert done.returncode == 2
        assert refusal in done.stderr
        assert layout(given) == before
    else:
        assert done.returncode == 0, done.stderr
        assert layout(given) == linked("3-third", "2-second")
        assert stat.S_IMODE(given.stat().st_mode) & 0o022 == 0


@needs_root
@pytest.mark.parametrize("change", ["owner", "mode", "folder", "link"])
def test_a_release_that_others_could_change_is_not_used_again(
    change: str, models: Path, variant: Variant
) -> None:
    for name in ("1-first", "2-second"):
        library = models / name / "lib/native.so"
        if change == "owner":
            os.chown(library, OTHER, OTHER)
        elif change == "mode":
            library.chmod(0o666)
        elif change == "folder":
            (models / name).chmod(0o777)
        else:
            library.rename(models / name / "lib/other.so")
            library.symlink_to("other.so")
    refused = update("--rollback", "--dir", models)
    assert refused.returncode == 2
    place = "1-first/." if change == "folder" else "native.so"
    assert place in refused.stderr and "another user" in refused.stderr
    assert layout(models) == linked("2-second", "1-first")
    done = update(variant("second"), "--dir", models)
    assert done.returncode == 0, done.stderr
    assert layout(models) == linked("3-second", "2-second")


def test_others_cannot_hold_up_an_update(models: Path, variant: Variant) -> None:
    """Everyone may open the folder, and lock what they can open."""
    handle = os.open(models, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = update(variant("third"), "--dir", models)
    os.close(handle)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((models / ".lock").stat().st_mode) == 0o600


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_modes_don_t_depend_on_the_umask(mask: int, variant: Variant, tmp_path: Path) -> None:
    models = tmp_path / "device/models"
    options = ["update", "--verbose", variant("first"), "--dir", models]
    command = [sys.executable, "-c", KILLED, "verify the copy", *options]
    done = subprocess.run(command, cwd=ROOT, timeout=120, umask=mask)
    assert done.returncode == -signal.SIGKILL
    assert modes(models / ".incoming") == {(True, 0o700), (False, 0o600)}
    done = update(variant("first"), "--dir", models, umask=mask)
    assert done.returncode == 0, done.stderr
    assert modes(models / "1-first") == {(True, 0o755), (False, 0o644)}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (models, models.parent)] == [0o755] * 2


def link_to_a_file(bundle: Path) -> None:
    (bundle / "tokenizer.json").rename(bundle / "elsewhere")
    (bundle / "tokenizer.json").symlink_to("elsewhere")


def link_to_a_folder(bundle: Path) -> None:
    (bundle / "cpu").rename(bundle / "elsewhere")
    (bundle / "cpu").symlink_to("elsewhere")


def link_as_lock(bundle: Path) -> None:
    (bundle / LOCK_NAME).rename(bundle / "elsewhere")
    (bundle / LOCK_NAME).symlink_to("elsewhere")


def pipe(name: str) -> Callable[[Path], None]:
    def replace(bundle: Path) -> None:
        (bundle / name).unlink()
        os.mkfifo(bundle / name)

    return replace


@pytest.mark.parametrize(
    "change",
    [link_to_a_file, link_to_a_folder, link_as_lock, pipe("tokenizer.json"), pipe(LOCK_NAME)],
)
def test_a_bundle_of_more_than_plain_files_is_refused(
    change: Callable[[Path], None], models: Path, variant: Variant, tmp_path: Path
) -> None:
    odd = shutil.copytree(variant("third"), tmp_path / "odd")
    change(odd)
    done = update(odd, "--dir", models)
    assert done.returncode == 2
    assert "plain files" in done.stderr
    assert "copy" not in done.stdout
    assert layout(models) == linked("2-second", "1-first")


@pytest.mark.parametrize(
    ("what", "refusal"),
    [
        (
            "with (bundle / 'cpu/params_shard_0.bin').open('r+b') as file: file.write(bytes(9))",
            "another SHA-256",
        ),
        (
            "with (bundle / 'tokenizer.json').open('ab') as file: file.write(bytes(9))",
            "tokenizer.json grew",
        ),
        (
            "from tests.devices.conftest import relock; relock(bundle, 'exchanged')",
            "changed while it was copied",
        ),
        ("(bundle / 'tokenizer.json').unlink()", "tokenizer.json"),
    ],
)
def test_a_bundle_that_changes_after_it_was_verified_is_refused(
    what: str, refusal: str, models: Path, variant: Variant, tmp_path: Path
) -> None:
    bundle = shutil.copytree(variant("third"), tmp_path / "changing")
    script = TAMPERED.format(what=what, bundle=str(bundle))
    command = [sys.executable, "-c", script, "update", str(bundle), "--dir", str(models)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert refusal in done.stderr
    assert layout(models) == linked("2-second", "1-first")


@pytest.mark.parametrize("damage", ["no longer what it was", "unable to answer"])
def test_a_rollback_goes_back_to_nothing_that_is(
    damage: str, models: Path, variant: Variant
) -> None:
    if damage == "unable to answer":
        (models / "1-first/lib/native.so").write_bytes(b"no library")
        relock(models / "1-first", "first")
    else:
        (models / "1-first/generation_config.json").write_text('{"temperature": 1}')
    done = update("--rollback", "--dir", models)
    assert done.returncode == 2
    # Code of a release that isn't what it was doesn't run.
    assert ("self-check" in done.stderr) == (damage == "unable to answer")
    assert ("generation_config.json" in done.stderr) == (damage != "unable to answer")
    assert layout(models) == linked("2-second", "1-first")


def test_a_disk_that_fills_up_leaves_nothing_behind(models: Path, variant: Variant) -> None:
    done = update(
        variant("third"),
        "--dir",
        models,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 2
    assert "can't update" in done.stderr and "Traceback" not in done.stderr
    assert layout(models) == linked("2-second", "1-first")


@needs_root
@pytest.mark.parametrize(
    ("mount", "refusal"),
    [
        ('mount -t tmpfs -o size=1m,mode=755 tmpfs "$0"', "MiB free"),
        ('mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"', "Read-only"),
    ],
)
def test_a_disk_that_is_too_small_or_read_only_is_named(
    mount: str, refusal: str, models: Path, variant: Variant
) -> None:
    command = update_command(variant("third"), "--dir", models)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', models, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 2
    assert refusal in done.stderr
    assert layout(models) == linked("2-second", "1-first")
