"""The installer below a folder of its own: from what a PC collects to a daemon that answers."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.build.conftest import ROOT
from tests.daemon.daemons import QUESTION, Log, environment
from tests.devices.conftest import Variant
from tests.devices.installing import ELSEWHERE, INSTALL, script

CONFIGS = [ROOT / "edge" / board / "config.toml" for board in ("install", "raspberrypi", "jetson")]
PURGED = ("etc/mlc-edge", "var/lib/mlc-edge")


@pytest.fixture(scope="session")
def root(kit: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Raspberry Pi on which the daemon was installed."""
    root = tmp_path_factory.mktemp("device") / "root"
    tree = root / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    install(kit, root, bundle)
    return root


def install(kit: Path, root: Path, bundle: Path) -> None:
    done = script(kit / "install/install.sh", "--root", root, kit / "wheels", bundle)
    assert done.returncode == 0, done.stdout + done.stderr


def unit(root: Path) -> Path:
    return root / "etc/systemd/system/mlc-edge.service"


@contextmanager
def daemon(root: Path) -> Iterator[str]:
    """The unit's command, with its paths below `root`; the address of the daemon."""
    line = re.search(r"^ExecStart=(.*)$", unit(root).read_text(), re.MULTILINE)
    assert line
    words = [f"{root}{word}" if word.startswith("/") else word for word in line[1].split()]
    config = root / "etc/mlc-edge/config.toml"
    keys = root / "etc/mlc-edge/keys"
    options = ["--config", config, "--api-key-file", keys, "--port", "0"]
    process = subprocess.Popen(
        [*words, *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ELSEWHERE,
        env={name: value for name, value in environment().items() if name != "PYTHONPATH"},
    )
    assert process.stderr is not None
    log = Log()
    reader = threading.Thread(target=log.read, args=(process.stderr,))
    reader.start()
    try:
        log.wait_for("ready: ")
        yield log.wait_for(r"listening on (http://\S+/)")[1]
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def test_the_installed_daemon_answers_who_has_the_key(root: Path) -> None:
    key = (root / "etc/mlc-edge/keys").read_text().strip()
    question = {"messages": QUESTION, "temperature": 0, "max_tokens": 32}
    with daemon(root) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert "<html" in client.get("/").text
        assert client.post("v1/chat/completions", json=question).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        answer = client.post("v1/chat/completions", json=question, headers=headers).json()
    assert "42" in answer["choices"][0]["message"]["content"]


def test_vulkan_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    script = "from mlc_edge.vulkan import build; print(build.plugin_origin(), build.wgpu_native())"
    command = [root / "opt/mlc-edge/bin/python", "-c", script]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=inherited, check=True
    )
    origin, library = done.stdout.split(" ", 1)
    assert origin == "shipped" and Path(library.strip()).is_relative_to(root)


def test_settings_suit_the_board_and_the_key_is_secret(root: Path) -> None:
    settings = root / "etc/mlc-edge"
    assert (settings / "config.toml").read_text() == CONFIGS[1].read_text()
    assert stat.S_IMODE((settings / "keys").stat().st_mode) == 0o600
    command = root / "usr/local/bin/mlc-edge"
    assert str(command.readlink()) == "/opt/mlc-edge/bin/mlc-edge"


def test_systemd_finds_no_fault_in_the_unit(root: Path, tmp_path: Path) -> None:
    text = unit(root).read_text()
    assert {"Type=notify", "User=mlc-edge", "WatchdogSec=300"} <= set(text.splitlines())
    if not shutil.which("systemd-analyze"):
        return
    here = tmp_path / "mlc-edge.service"
    here.write_text(text.replace("ExecStart=", f"ExecStart={root}"))
    for verb in (["verify"], ["security", "--offline=yes", "--threshold=20"]):
        done = subprocess.run(["systemd-analyze", *verb, here], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.parent.name)
def test_the_daemon_accepts_the_boards_settings(config: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef")
    keys.chmod(0o600)
    options = ["--check", "--config", config, "--api-key-file", keys]
    done = subprocess.run(
        [sys.executable, "-m", "mlc_edge", "run", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert 'host = "127.0.0.1"' in done.stdout


def test_installing_again_brings_a_model_and_keeps_settings(
    root: Path, kit: Path, variant: Variant
) -> None:
    settings, models = root / "etc/mlc-edge", root / "var/lib/mlc-edge/models"
    with (settings / "config.toml").open("a") as config:
        config.write("max_body = 4096\n")
    before = [(settings / name).read_text() for name in ("config.toml", "keys")]
    install(kit, root, variant("second"))
    assert [(settings / name).read_text() for name in ("config.toml", "keys")] == before
    assert str((models / "current").readlink()).endswith("-second")


@pytest.mark.parametrize("purge", [False, True])
def test_uninstalling_keeps_models_unless_purged(
    root: Path, tmp_path: Path, *, purge: bool
) -> None:
    copy = shutil.copytree(root, tmp_path / "root", symlinks=True, copy_function=os.link)
    done = script(INSTALL / "uninstall.sh", "--root", copy, *["--purge"] * purge)
    assert done.returncode == 0, done.stderr
    assert not (copy / "opt/mlc-edge").exists()
    assert not (copy / "usr/local/bin/mlc-edge").is_symlink()
    assert not unit(copy).exists()
    assert [(copy / folder).exists() for folder in PURGED] == [not purge] * 2


@pytest.mark.parametrize(
    ("wheels", "model", "message"),
    [
        ("nowhere", "bundle", "there is no folder of wheels"),
        ("empty", "bundle", "should hold one wheel pip-*.whl"),
        ("ours", "empty", "is not a bundle"),
        ("ours", "bundle", "lacks wheels for this device"),
    ],
)
def test_what_is_missing_is_named(
    wheels: str, model: str, message: str, kit: Path, bundle: Path, tmp_path: Path
) -> None:
    for folder in ("empty", "ours"):
        (tmp_path / folder).mkdir()
    for pattern in ("pip-*.whl", "mlc_edge-*.whl"):
        (wheel,) = (kit / "wheels").glob(pattern)
        os.link(wheel, tmp_path / "ours" / wheel.name)
    given = {"bundle": bundle, "empty": tmp_path / "empty"}[model]
    done = script(INSTALL / "install.sh", "--root", tmp_path / "root", tmp_path / wheels, given)
    assert done.returncode == 2
    assert message in done.stderr
