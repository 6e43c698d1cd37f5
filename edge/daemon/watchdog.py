"""Keep-alives for systemd, as long as the engine gets on with its work."""

import asyncio
import logging

from edge.daemon.model import ServedModel
from edge.daemon.notify import Notifier
from mlc_edge.engine import EngineStats

logger = logging.getLogger(__name__)
# Twice as often as systemd asks for: one that comes late is no reason to be killed.
CHECKS = 4


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
    had_work = before.running + before.waiting > 0
    has_work = now.running + now.waiting > 0
    return had_work and has_work and before.steps == now.steps
