"""A `systemctl` for one unit, where no systemd runs: it starts, notices and ends the real daemon."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.daemon.daemons import ROOT, environment

TIMEOUT_S = 60


@dataclass(frozen=True)
class Service:
    """`folder` holds the command and what it knows of the unit."""

    folder: Path

    @property
    def search_path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def start(self) -> None:
        subprocess.run([self.folder / "systemctl", "restart", "mlc-edge"], check=True)

    def model(self) -> str:
        """What the daemon serves, by its own account."""
        match = re.search(r"listening on (http://\S+/)", (self.folder / "log").read_text())
        assert match
        models = httpx.get(f"{match[1]}v1/models", timeout=TIMEOUT_S).json()
        return str(models["data"][0]["id"])


@contextmanager
def service(folder: Path, models: Path, *options: str) -> Iterator[Service]:
    """A unit that runs the daemon on the current one of `models`; ended at last."""
    folder.mkdir()
    daemon = [sys.executable, "-m", "mlc_edge", "run", str(models / "current"), "--port", "0"]
    (folder / "command").write_text("\n".join([*daemon, *options]))
    script = folder / "systemctl"
    script.write_text(
        f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m {__name__} {folder} "$@"\n'
    )
    script.chmod(0o755)
    try:
        yield Service(folder)
    finally:
        _stop(folder)


def systemctl(folder: Path, verb: str) -> int:
    """The exit status of `systemctl VERB mlc-edge`."""
    if verb == "is-active":
        active = _process(folder) is not None
        print("active" if active else "inactive")
        return 0 if active else 3
    if verb == "restart":
        _stop(folder)
        return 0 if _start(folder) else 1
    return 0


def _start(folder: Path) -> bool:
    """As Type=notify: whether it said READY before it ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        address = folder / "notify"
        address.unlink(missing_ok=True)
        notices.bind(str(address))
        notices.settimeout(0.05)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                (folder / "command").read_text().splitlines(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(NOTIFY_SOCKET=str(address)),
                start_new_session=True,
            )
        (folder / "pid").write_text(str(process.pid))
        while process.poll() is None:
            with suppress(TimeoutError):
                if b"READY=1" in notices.recv(4096):
                    return True
    (folder / "pid").unlink()
    return False


def _process(folder: Path) -> int | None:
    """A handle of the running daemon."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return os.pidfd_open(int((folder / "pid").read_text()))
    return None


def _stop(folder: Path) -> None:
    process = _process(folder)
    if process is None:
        return
    signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
    (folder / "pid").unlink()


if __name__ == "__main__":
    sys.exit(systemctl(Path(sys.argv[1]), sys.argv[2]))
