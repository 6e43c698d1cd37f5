"""The daemon's systemd unit."""

import shutil
import subprocess
from pathlib import Path

UNIT = "mlc-edge.service"
# A unit that failed for want of a good model is restarted as well; one that was stopped is not.
RESTARTED_STATES = ("active", "activating", "reloading", "failed")
RESTART_TIMEOUT_S = 900
# sd_booted(3).
BOOTED = Path("/run/systemd/system")


class Unit:
    """Asks systemd, where there is one; a start ends when the daemon is ready."""

    def runs(self) -> bool:
        """Whether systemd has it started."""
        if not shutil.which("systemctl"):
            return False
        return self._systemctl("is-active", UNIT).stdout.strip() in RESTARTED_STATES

    def restart(self) -> bool:
        """Whether it became ready again."""
        # Else its earlier failures could keep it from being started.
        self._systemctl("reset-failed", UNIT)
        try:
            restarted = self._systemctl("restart", UNIT).returncode == 0
        except subprocess.TimeoutExpired:
            return False
        return restarted and self._systemctl("is-active", UNIT).returncode == 0

    def settings(self) -> list[str] | None:
        """`Name=value` of all settings of the service, drop-ins included; None without systemd or unit."""
        if not (BOOTED.is_dir() and shutil.which("systemd-run")):
            return None
        done = self._systemctl("cat", UNIT)
        return service_settings(done.stdout) if done.returncode == 0 else None

    def _systemctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=RESTART_TIMEOUT_S
        )


def service_settings(text: str) -> list[str]:
    """`Name=value` of each setting in [Service], in their order; systemd.syntax(7)."""
    lines = (line.strip() for line in text.splitlines())
    joined = "\n".join(line for line in lines if line and line[0] not in "#;")
    section, found = "", []
    for line in joined.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]":
            name, _, value = line.partition("=")
            found.append(f"{name.strip()}={value.strip()}")
    return found
