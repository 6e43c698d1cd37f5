"""Switching a device from one bundle to another, and back if the other one fails."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edge.update.folders import any_folder, open_plain
from edge.update.releases import Announce, Links, Releases
from edge.update.sandbox import run_confined
from edge.update.self_check import FAILURE
from edge.update.unit import UNIT, Unit
from mlc_edge.bundle import LOCK_NAME, REBUILD, SIGNATURE_NAME, BundleLock, read_lock, verify
from mlc_edge.errors import BundleError, ConfigError
from mlc_edge.signing import PublicKey
from mlc_edge.trust import Trust

SELF_CHECK_TIMEOUT_S = 900
# What systemd-run says of a program that it ended or that a signal ended.
ENDED = re.compile(r"result: (?!exit-code)(\S+)|code=(?:killed|dumped)\W+status=(\S+)")


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
    announce("verify the bundle")
    lock = _verified(bundle)
    _require_trust(bundle, keys)
    name = releases.find(bundle)
    if name is None:
        incoming = releases.copy(bundle, lock)
        _require_trust(incoming, keys)
        _check(incoming, announce)
        name = releases.adopt(lock)
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
    releases.verify(links.previous)
    _require_trust(releases.path(links.previous), keys)
    _check(releases.path(links.previous), announce)
    _use(releases, links.previous, unit, announce)
    return links.previous


def _require_trust(bundle: Path, keys: Sequence[PublicKey]) -> None:
    """Raise BundleError for what no key signed, if there are keys; without, for what a download left."""
    if not Trust(keys=tuple(keys)).runs_libraries_of(bundle):
        raise BundleError(
            f"{bundle} was downloaded, and nobody vouches for its code: have it signed, or copy it to a "
            "folder of your own if you trust who made it."
        )


def _verified(bundle: Path) -> BundleLock:
    """The lock of a bundle that anybody may have made, once all its files are what it says."""
    try:
        with any_folder(bundle) as folder:
            for name in {LOCK_NAME, SIGNATURE_NAME} & {LOCK_NAME, *os.listdir(folder)}:
                os.close(open_plain(folder, name))
            for file in read_lock(bundle).files:
                os.close(open_plain(folder, file.path))
    except OSError as error:
        raise BundleError(f"{bundle} is not a bundle: {error.strerror}. {REBUILD}") from error
    return verify(bundle)


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
    failure = f"{UNIT} doesn't become ready with {name}"
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
        done = run_confined(
            "edge.update.self_check", os.fspath(bundle), seconds=SELF_CHECK_TIMEOUT_S
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


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    told = [line for line in done.stdout.splitlines() if line.startswith(FAILURE)]
    if told:
        return told[-1].removeprefix(FAILURE).rstrip(".")
    ended = [word for match in ENDED.finditer(done.stderr) for word in match.groups() if word]
    if ended:
        return f"it was ended by systemd ({', '.join(ended)})"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1].rstrip(".")
