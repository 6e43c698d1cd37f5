"""Switching a device from one bundle to another, and back if the other one fails."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.update.releases import Announce, Links, Releases
from mlc_edge.bundle import read_lock, verify
from mlc_edge.errors import BundleError, ConfigError
from mlc_edge.signing import PublicKey, find_signer

UNIT = "mlc-edge"
# A unit that failed for want of a good model is restarted as well; one that was stopped is not.
RESTARTED_STATES = ("active", "activating", "reloading", "failed")
# The child imports this very package, wherever the command was called.
PACKAGES = Path(__file__).parents[2]
SELF_CHECK_TIMEOUT_S = 900
RESTART_TIMEOUT_S = 900


class Unit:
    """The daemon's systemd unit, whose start ends when it is ready."""

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

    def _systemctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=RESTART_TIMEOUT_S
        )


def switch_to(
    releases: Releases,
    bundle: Path,
    *,
    keys: Sequence[PublicKey] = (),
    unit: Unit | None,
    announce: Announce,
) -> str:
    """Copy, check and use `bundle`; its release's name. Raises MlcEdgeError, and keeps the old one.

    With `keys`, one of them must have signed it.
    """
    lock = read_lock(bundle)
    _require_signature(bundle, keys)
    name = releases.find(bundle)
    if name is None:
        incoming = releases.copy(bundle, lock)
        _require_signature(incoming, keys)
        _check(incoming, announce)
        name = releases.adopt(incoming, lock)
    else:
        _check(releases.path(name), announce)
    _use(releases, name, unit, announce)
    return name


def go_back(
    releases: Releases,
    *,
    keys: Sequence[PublicKey] = (),
    unit: Unit | None,
    announce: Announce,
) -> str:
    """Use the release before; its name. Raises MlcEdgeError, and keeps the one in use."""
    links = releases.links()
    if links.previous is None or links.previous == links.current:
        raise ConfigError(f"{releases.folder} has no model before this one: update to a bundle.")
    announce(f"verify {links.previous}")
    verify(releases.path(links.previous))
    _require_signature(releases.path(links.previous), keys)
    _check(releases.path(links.previous), announce)
    _use(releases, links.previous, unit, announce)
    return links.previous


def _require_signature(bundle: Path, keys: Sequence[PublicKey]) -> None:
    if keys:
        find_signer(bundle, keys)


def _use(releases: Releases, name: str, unit: Unit | None, announce: Announce) -> None:
    before = releases.links()
    if name != before.current:
        releases.point(Links(name, before.current))
    else:
        # An interrupted update came this far: what it replaced is still there.
        before = Links(before.previous)
    if unit is None or not unit.runs():
        return
    announce(f"restart {UNIT}")
    if unit.restart():
        return
    failure = f"{UNIT}.service doesn't become ready with {name}"
    remedy = f"`journalctl -u {UNIT}` says why."
    if before.current is None:
        raise BundleError(f"{failure}, and there is no model before it. {remedy}")
    releases.point(before)
    announce(f"restart {UNIT}")
    again = "serves again" if unit.restart() else "is linked again, but isn't ready either"
    raise BundleError(f"{failure}; {before.current} {again}. {remedy}")


def _check(bundle: Path, announce: Announce) -> None:
    announce("let it answer")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.update.self_check", os.fspath(bundle)],
            cwd=PACKAGES,
            capture_output=True,
            text=True,
            timeout=SELF_CHECK_TIMEOUT_S,
            **_as_owner(bundle.parent),
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"the new model gave no answer in {SELF_CHECK_TIMEOUT_S} s: use a smaller one."
        ) from error
    if done.returncode != 0:
        raise BundleError(
            f"the model fails its self-check on this device: {_reason(done)}. "
            "The model in use stays; build the bundle again for this device."
        )


def _as_owner(folder: Path) -> dict[str, Any]:
    """Options of a child that runs a bundle's code with no more rights than the daemon has."""
    status = folder.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        return {}
    return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1].removeprefix("error: ").rstrip(".")
