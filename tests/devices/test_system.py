"""The installed daemon and its updates on a real systemd: sandbox, users, limits."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.daemons import QUESTION
from tests.devices.conftest import Variant
from tests.devices.hostile import hostile_bundle
from tests.devices.installing import DEVICE_PYTHON
from tests.devices.machine import Machine, can_have_machines, machine

pytestmark = pytest.mark.skipif(not can_have_machines, reason="namespaces of its own need root")
STATE, MODELS, HOME = (f"/var/lib/mlc-edge{path}" for path in ("", "/models", "/home"))
UNIT = "/etc/systemd/system/mlc-edge.service"
RESERVE = 512 << 20
# What a process may do, by the kernel's account: all of it is inherited by its children.
RIGHTS = ("Uid", "Gid", "Groups", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")
# As an answer of the self-check, so that the command passes it on.
TELL = f"""
printf 'error: '
grep -hE '^({"|".join(RIGHTS)}):' /proc/self/status | tr -s '\\t\\n' ' ;'
printf 'files=%s;said=%s;' "$(ulimit -n)" "$SAID"
for place in {MODELS} {STATE} {HOME} /opt/mlc-edge /etc/mlc-edge; do
  (: >"$place/left") 2>/dev/null && printf 'wrote=%s;' "$place"
done
exit 1
"""


@pytest.fixture(scope="module")
def device(
    kit: Path, variant: Variant, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine on which the daemon was installed, and serves `first`."""
    with machine(tmp_path_factory.getbasetemp(), systemd=True) as device:
        install(device, kit, variant("first"))
        yield device


def install(device: Machine, kit: Path, bundle: Path) -> None:
    """By a root whose new files are for root alone."""
    words = [device.path(path) for path in (kit / "install/install.sh", kit / "wheels", bundle)]
    masked = ("bash", "-c", 'umask 077 && exec "$@"', "masked")
    device.do(*masked, *words, PYTHON=DEVICE_PYTHON, PIP_NO_COMPILE="1")


def update(device: Machine, *arguments: object):
    return device.run("/usr/local/bin/mlc-edge", "update", *arguments)


def shown(device: Machine, name: str) -> str:
    return device.do("systemctl", "show", "mlc-edge", f"--property={name}", "--value").strip()


def served(device: Machine) -> str:
    key = device.do("cat", "/etc/mlc-edge/keys").strip()
    header = f"Authorization: Bearer {key}"
    answer = device.do("curl", "-sH", header, "http://127.0.0.1:8000/v1/models")
    return str(json.loads(answer)["data"][0]["id"])


def rights(text: str) -> dict[str, list[str]]:
    """Values of /proc/PID/status, as words."""
    return {name: value.split() for name, value in re.findall(r"(\w+):\s+([0-9a-f \t]*)", text)}


def test_the_daemon_answers_in_its_sandbox(device: Machine):
    assert shown(device, "SubState") == "running"
    pid = shown(device, "MainPID")
    status = rights(device.do("cat", f"/proc/{pid}/status"))
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert int(status["CapBnd"][0], 16) == 0
    key = device.do("cat", "/etc/mlc-edge/keys").strip()
    headers = ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    body = json.dumps({"messages": QUESTION, "temperature": 0, "max_tokens": 32})
    url = "http://127.0.0.1:8000/v1/chat/completions"
    answer = json.loads(device.do("curl", "-s", *headers, "-d", body, url))
    assert "42" in answer["choices"][0]["message"]["content"]


def test_the_daemon_is_limited_to_what_the_board_leaves_it(device: Machine):
    total = int(re.findall(r"MemTotal:\s+(\d+)", device.do("cat", "/proc/meminfo"))[0]) << 10
    # systemd counts in pages.
    assert 0 <= total - RESERVE - int(shown(device, "MemoryMax")) < 4096
    assert (shown(device, "LimitNOFILE"), shown(device, "TasksMax")) == ("4096", "512")


def test_root_owns_what_root_writes(device: Machine):
    entries = device.do("find", STATE, "-printf", "%u %m %p\n").splitlines()
    assert f"mlc-edge 700 {HOME}" in entries
    assert f"root 755 {STATE}" in entries and f"root 755 {MODELS}" in entries
    for entry in entries:
        user, mode, path = entry.split()
        if not path.startswith(HOME):
            is_link = path == f"{MODELS}/current"
            assert user == "root"
            assert is_link or not int(mode, 8) & (stat.S_IWGRP | stat.S_IWOTH)


def test_a_new_model_runs_first_with_the_daemons_rights(
    device: Machine, variant: Variant, tmp_path: Path
):
    """Those of the unit as its owner changed it, not a copy of ours."""
    hostile = hostile_bundle(variant("first"), tmp_path / "hostile", TELL)
    drop_in = f"{UNIT}.d/20-owner.conf"
    text = "[Service]\nLimitNOFILE=1234\nEnvironment=SAID=by-the-owner\n"
    device.do("bash", "-c", f"printf '{text}' >{drop_in} && systemctl daemon-reload")
    before = served(device)
    done = update(device, device.path(hostile))
    assert done.returncode == 2
    told = done.stderr
    pid = shown(device, "MainPID")
    known = rights(device.do("cat", f"/proc/{pid}/status"))
    assert {name: rights(told)[name] for name in RIGHTS} == {name: known[name] for name in RIGHTS}
    assert "files=1234;said=by-the-owner;" in told
    assert re.findall(r"wrote=([^;]*);", told) == [HOME]
    assert served(device) == before
    device.do("bash", "-c", f"rm {drop_in} {HOME}/left && systemctl daemon-reload")


def test_a_model_that_crashes_is_told_from_one_that_fails(
    device: Machine, variant: Variant, tmp_path: Path
):
    crashing = hostile_bundle(variant("first"), tmp_path / "crashing", "kill -ILL $$")
    done = update(device, device.path(crashing))
    assert done.returncode == 2
    assert re.search(r"ended by systemd \((core-dump|signal), ILL\)", done.stderr)


def test_without_systemd_a_new_model_runs_as_the_daemons_user(
    device: Machine, variant: Variant, tmp_path: Path
):
    """As where an image is made: /run is another one."""
    hostile = hostile_bundle(variant("first"), tmp_path / "hostile", TELL)
    device.do("cp", "-r", device.path(hostile), "/var/tmp/hostile")
    command = "mount -t tmpfs tmpfs /run && exec /usr/local/bin/mlc-edge update /var/tmp/hostile"
    with_groups = ("setpriv", "--groups=4,24", "unshare", "--mount")
    done = device.run(*with_groups, "bash", "-c", command, SAID="by-root")
    assert done.returncode == 2
    assert "runs as mlc-edge without the sandbox" in done.stderr
    user = device.do("id", "--user", "mlc-edge").strip()
    assert rights(done.stderr)["Uid"] == [user] * 4
    assert rights(done.stderr)["Groups"] == []
    assert "said=;" in done.stderr
    assert re.findall(r"wrote=([^;]*);", done.stderr) == [HOME]
    device.do("rm", "-r", f"{HOME}/left", "/var/tmp/hostile")


def test_an_update_restarts_the_daemon_and_a_rollback_too(device: Machine, variant: Variant):
    """However often it was started before: a model that failed may have used up its starts."""
    drop_in = f"{UNIT}.d/30-starts.conf"
    text = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=1h\n"
    device.do("bash", "-c", f"printf '{text}' >{drop_in} && systemctl daemon-reload")
    for arguments, model in (
        ((device.path(variant("second")),), "second"),
        (("--rollback",), "first"),
    ):
        done = update(device, *arguments)
        assert done.returncode == 0, done.stderr
        assert served(device) == model
    device.do("bash", "-c", f"rm {drop_in} && systemctl daemon-reload")


def test_people_without_roots_rights_update_folders_of_their_own(device: Machine, variant: Variant):
    """With a mask that leaves not even the owner any rights."""
    user = ("setpriv", "--reuid=mlc-edge", "--regid=mlc-edge", "--clear-groups")
    device.do("cp", "-r", device.path(variant("first")), "/var/tmp/first")
    device.do("install", "-d", "-o", "mlc-edge", "/var/tmp/own")
    command = "umask 777 && exec /usr/local/bin/mlc-edge update /var/tmp/first --no-restart --dir"
    done = device.run(*user, "bash", "-c", f"{command} /var/tmp/own/models")
    assert (done.returncode, done.stderr) == (0, "")
    refused = device.run(*user, "bash", "-c", f"{command} {MODELS}")
    assert refused.returncode == 2
    assert "Try sudo" in refused.stderr
    device.do("install", "-d", "-m", "777", "/var/tmp/common")
    refused = device.run(*user, "bash", "-c", f"{command} /var/tmp/common")
    assert refused.returncode == 2
    assert "other users can write to /var/tmp/common" in refused.stderr
    device.do("rm", "-r", "/var/tmp/first", "/var/tmp/own", "/var/tmp/common")


def test_what_an_older_installation_left_to_the_daemon_is_taken_back(
    device: Machine, kit: Path, variant: Variant
):
    """There the daemon's user could exchange folders that root writes to."""
    device.do("mkdir", "/etc/private")
    device.do("chown", "mlc-edge:", STATE, MODELS)
    refused = update(device, device.path(variant("second")))
    assert refused.returncode == 2
    assert f"{STATE} belongs to another user" in refused.stderr
    plant = f"mv {MODELS} {STATE}/old && ln -s /etc/private {MODELS}"
    device.do("setpriv", "--reuid=mlc-edge", "--clear-groups", "bash", "-c", plant)
    refused = update(device, device.path(variant("second")))
    assert refused.returncode == 2
    install(device, kit, variant("second"))
    assert device.do("ls", "-A", "/etc/private") == ""
    assert device.do("stat", "-c", "%U %a", STATE, MODELS, "/etc/private").split() == [
        *("root", "755") * 2,
        *("root", "755"),
    ]
    assert served(device) == "second"
