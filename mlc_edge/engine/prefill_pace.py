"""How many tokens of prompts a step may read, by the time that earlier ones took."""

from mlc_edge.engine.kv_cache import PAGE_TOKENS

# A running answer waits for no longer than this for its next token; where none runs, those who come or
# cancel wait for the step.
PATIENCE_S = 0.15
ALONE_S = 1.0
FIRST_CHUNK = 32
LARGEST_GROWTH = 4
# Weight of the latest measurement: chunks differ in length and in the context that they attend to.
SMOOTHING = 0.5


class PrefillPace:
    """Adapts chunks to the device; `largest` is what the library takes."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._seconds_per_token: float | None = None
        self._last = FIRST_CHUNK // LARGEST_GROWTH

    def tokens(self, *, answers_run: bool) -> int:
        """Tokens of the next prefill: whole pages, at least one."""
        patience = PATIENCE_S if answers_run else ALONE_S
        most = LARGEST_GROWTH * self._last
        if self._seconds_per_token:
            most = min(most, int(patience / self._seconds_per_token))
        pages = max(1, most // PAGE_TOKENS)
        return min(pages * PAGE_TOKENS, self._largest)

    def measured(self, tokens: int, seconds: float) -> None:
        """A prefill of so many tokens took so long."""
        latest = seconds / tokens
        known = self._seconds_per_token
        self._seconds_per_token = (
            latest if known is None else SMOOTHING * latest + (1 - SMOOTHING) * known
        )
        self._last = max(tokens, self._last)
