"""Ctrl-C while the plain engine waits for an answer: at any moment, and without a trace."""

import signal
from collections.abc import Iterator

import pytest

from mlc_edge import MLCEngine
from tests.python_engine.conftest import text_of, user

STORY = user("Tell me a story.")
# Spread over an answer, which takes some 50 ms.
DELAYS_S = [0.001 + 0.0006 * number for number in range(80)]
REPEAT_S = 1


@pytest.fixture
def alarm() -> Iterator[None]:
    """An alarm acts as Ctrl-C."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted_after(engine: MLCEngine, delay_s: float) -> int:
    """Chunks that came before the alarm."""
    count = 0
    stream = engine.chat.completions.create(messages=STORY, stream=True, temperature=0)
    try:
        # Again and again: an alarm inside a destructor is swallowed.
        signal.setitimer(signal.ITIMER_REAL, delay_s, REPEAT_S)
        for _ in stream:
            count += 1
        while True:
            signal.pause()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        stream.close()
    return count


# Python swallows, and reports, what an alarm raises inside a destructor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_answer_may_be_interrupted_at_any_moment(engine: MLCEngine, alarm: None):
    before = text_of(engine, "Tell me a story.", temperature=0)
    counts = [interrupted_after(engine, delay_s) for delay_s in DELAYS_S]
    assert min(counts) < max(counts)
    assert text_of(engine, "Tell me a story.", temperature=0) == before
    assert engine.stats().running == 0
