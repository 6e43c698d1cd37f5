"""A machine of its own on this one's kernel: what is installed and switched there is gone with it.

Namespaces of its own for mounts, processes, network and control groups; what it writes lies in memory.
With `systemd` it is Debian's real one, which starts nothing but what tests ask for: none of this
machine's units, which would clean its /tmp and set its kernel.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
OVERLAID = ("etc", "opt", "usr/local", "var")
SHARED = Path("/run/shared")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNTS = f"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir {SHARED}
mount --bind "$1" {SHARED}
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o mode=700 tmpfs /root
for folder in {" ".join(OVERLAID)}; do
  mkdir -p /run/changes/$folder /run/work/$folder
  options=lowerdir=/$folder,upperdir=/run/changes/$folder,workdir=/run/work/$folder
  mount -t overlay -o $options overlay /$folder
done
ip link set lo up
"""
UNITS = {
    **dict.fromkeys(("sysinit", "basic", "shutdown", "network", "multi-user"), ""),
    "machine": "Wants=dbus.socket\nAfter=dbus.socket\n",
}
BUS = {
    "dbus.socket": "[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": "[Service]\nType=notify\nExecStart=/usr/bin/dbus-daemon --system "
    "--address=systemd: --nofork --nopidfile --systemd-activation\n",
}
SYSTEMD = f"""
mkdir -p /run/systemd/system /run/units /run/dbus
cp {SHARED}/units/* /run/units/
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/transient:/run/units
exec /lib/systemd/systemd --system --unit=machine.target --log-target=null --show-status=no
"""
NO_SYSTEMD = "exec sleep infinity"
can_have_machines = os.geteuid() == 0


@dataclass(frozen=True)
class Machine:
    """`init` is the number of its first process, as this machine counts; `folder` is shared with it."""

    init: int
    folder: Path

    def path(self, here: Path) -> Path:
        """Where it sees a file of the shared folder."""
        return SHARED / here.relative_to(self.folder)

    def run(self, *command: object, **extra: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as its root; `extra` are environment variables."""
        return subprocess.run(
            ["nsenter", f"--target={self.init}", *NAMESPACES, "--wd=/", *map(str, command)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": PATH, "LANG": "C.UTF-8", "COLUMNS": "200", **extra},
            timeout=TIMEOUT_S,
        )

    def do(self, *command: object, **extra: str) -> str:
        """What the command writes; fails unless it ends well."""
        done = self.run(*command, **extra)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_for(self, *command: object) -> None:
        """Repeat a command until it ends well."""
        deadline = time.monotonic() + TIMEOUT_S
        while (done := self.run(*command)).returncode:
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.05)


@contextmanager
def machine(folder: Path, *, systemd: bool) -> Iterator[Machine]:
    """Started, and ended with all that runs on it; `folder` is one that it shares with tests."""
    units = folder / "units"
    units.mkdir(exist_ok=True)
    for name, more in UNITS.items():
        (units / f"{name}.target").write_text(f"[Unit]\nDefaultDependencies=no\n{more}")
    for name, text in BUS.items():
        (units / name).write_text(f"[Unit]\nDefaultDependencies=no\n{text}")
    script = MOUNTS + (SYSTEMD if systemd else NO_SYSTEMD)
    process = subprocess.Popen(
        ["unshare", *NAMESPACES, "--kill-child", "bash", "-c", script, "machine", folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        running = Machine(_child(process), folder)
        ready = ("systemctl", "is-active", "dbus.socket") if systemd else ("ip", "addr")
        running.wait_for(*ready)
        yield running
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _child(process: "subprocess.Popen[bytes]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.poll() is None
        time.sleep(0.01)
    return int(found[0])
