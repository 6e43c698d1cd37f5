"""How a new bundle's code runs for the first time: as the daemon's would, with its user's rights.

What confines it is read from the daemon's own unit as systemd has it: the two can't differ.
"""

import logging
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.update.unit import UNIT, Unit

logger = logging.getLogger(__name__)
USER = "mlc-edge"
# The child imports this very package, wherever the command was called.
PACKAGES = Path(__file__).parents[2]
# What a unit says of its daemon's life and output; all else says what it may do and use.
OF_ITS_LIFE = re.compile(
    r"Exec.*|Type|NotifyAccess|Restart.*|Timeout.*|Watchdog.*|RuntimeMaxSec|KillMode|.*Signal"
    r"|SuccessExitStatus|RemainAfterExit|PIDFile|BusName|Sockets|Standard.*|WorkingDirectory"
)
# All that other users' code sees of root's environment.
ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH")
START_TIMEOUT_S = 60


def run_confined(module: str, argument: str, *, seconds: int) -> "subprocess.CompletedProcess[str]":
    """Run one of our modules in a process with the daemon's rights, or ours if they are fewer.

    Raises subprocess.TimeoutExpired when it takes longer than `seconds`.
    """
    program = [sys.executable, "-m", module, argument]
    settings = Unit().settings() if os.geteuid() == 0 else None
    if settings is not None:
        options: dict[str, Any] = {}
        program = [*_systemd_run(settings, seconds), *program]
    else:
        options = _rights_of_daemon() if os.geteuid() == 0 else {}
    return subprocess.run(
        program,
        cwd=PACKAGES,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + START_TIMEOUT_S,
        **options,
    )


def _systemd_run(settings: Sequence[str], seconds: int) -> Iterator[str]:
    yield from ("systemd-run", "--wait", "--pipe", "--collect", "--service-type=exec")
    yield "--description=Self-check of a new model for mlc-edge"
    kept = (text for text in settings if not OF_ITS_LIFE.fullmatch(text.partition("=")[0]))
    for text in (*kept, f"WorkingDirectory={PACKAGES}", f"RuntimeMaxSec={seconds}"):
        yield f"--property={text}"
    yield "--"


def _rights_of_daemon() -> dict[str, Any]:
    """Options of a child of root that has the daemon's user and not root's environment."""
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        logger.warning("there is no user %s: the new model's code runs with root's rights", USER)
        return {}
    logger.warning(
        "systemd doesn't run %s here: the new model's code runs as %s without the sandbox",
        UNIT,
        USER,
    )
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": [],
        "env": environment | {"HOME": user.pw_dir},
    }
