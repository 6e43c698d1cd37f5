"""Notifications to systemd, keep-alives for its watchdog included.

https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

from edge.daemon.model import ServedModel
from mlc_edge.engine import EngineStats

logger = logging.getLogger(__name__)
SEND_TIMEOUT_S = 0.5
# Twice as often as systemd asks for: one that comes late is no reason to be killed.
CHECKS = 4


@dataclass(frozen=True)
class Notifier:
    """Tells systemd about this service; silent without an address.

    `watchdog_s`: systemd restarts us when it hears nothing for so long; None: it doesn't watch.
    """

    address: str | None = None
    watchdog_s: float | None = None

    def ready(self, status: str) -> None:
        self._send(READY="1", STATUS=status)

    def loading(self, status: str, more_s: float) -> None:
        """Not ready yet, but working: the start may take `more_s` longer."""
        self._send(STATUS=status, EXTEND_TIMEOUT_USEC=str(int(more_s * 1e6)))

    def reloading(self) -> None:
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(RELOADING="1", MONOTONIC_USEC=str(microseconds))

    def stopping(self, status: str) -> None:
        self._send(STOPPING="1", STATUS=status)

    def alive(self) -> None:
        self._send(WATCHDOG="1")

    def _send(self, **fields: str) -> None:
        if self.address is None:
            return
        message = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        # A leading @ stands for the zero byte of an abstract socket.
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # The event loop waits for it: rather not told than stopped.
                sender.settimeout(SEND_TIMEOUT_S)
                sender.connect(name)
                sender.sendall(message.encode())
        except OSError as error:
            logger.warning("can't notify systemd at %s: %s", self.address, error)


def from_environment(environment: MutableMapping[str, str]) -> Notifier:
    """The notifier that systemd asked for; its variables are taken out, not for children."""
    address = environment.pop("NOTIFY_SOCKET", None)
    microseconds = environment.pop("WATCHDOG_USEC", "")
    watched = environment.pop("WATCHDOG_PID", str(os.getpid()))
    mine = microseconds.isdigit() and watched == str(os.getpid())
    return Notifier(address, int(microseconds) / 1e6 if mine and int(microseconds) else None)


def _one_line(text: str) -> str:
    return " ".join(text.split())


async def keep_alive(notifier: Notifier, model: ServedModel) -> None:
    """Notify until cancelled; a step of the engine has to be shorter than half of WatchdogSec."""
    if notifier.watchdog_s is None:
        return
    before = model.stats()
    while True:
        now = model.stats()
        if is_stuck(before, now):
            logger.error("the engine made no step since the last check")
        else:
            notifier.alive()
        before = now
        await asyncio.sleep(notifier.watchdog_s / CHECKS)


def is_stuck(before: EngineStats | None, now: EngineStats | None) -> bool:
    """Whether there was work at both times, and nothing was done between them."""
    if before is None or now is None or before is now:
        return False
    return before.requests > 0 and now.requests > 0 and before.steps == now.steps
