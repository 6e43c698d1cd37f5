"""Where a conversation that has grown too long is cut."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from mlc_edge.engine.protocol import ChatMessage

# What a template is reckoned to write around each message, in tokens.
MESSAGE_COST = 8
QUARTERS = 4


def first_turn(messages: Sequence[ChatMessage]) -> int:
    """How many system messages come before the first exchange."""
    roles = (message.role for message in messages)
    return next((index for index, role in enumerate(roles) if role != "system"), len(messages))


def cuts(
    messages: Sequence[ChatMessage], lengths: Sequence[int], *, window: int, room: int
) -> list[int]:
    """Messages up to which all but the first system messages may be dropped, in the order to try.

    `lengths` are those of the contents, `window` is what the model reads, `room` what a prompt may have of
    it, all in tokens. Exchanges begin with a user's message. A cut is the first border between
    exchanges at or after so many quarters of a window, counted from the conversation's beginning: while a
    conversation grows by a quarter it is cut at the same place, and its prompts begin alike. The
    first cut is the earliest after which the rest should fit; the last leaves one exchange.
    """
    start = first_turn(messages)
    costs = [length + MESSAGE_COST for length in lengths]
    dropped = [0] * start + [0, *accumulate(costs[start:])]
    borders = [i for i in range(start + 1, len(messages)) if messages[i].role == "user"]

    def quarters(index: int) -> int:
        return QUARTERS * dropped[index] // window

    found = [b for before, b in pairwise([start, *borders]) if quarters(b) > quarters(before)]
    found += [border for border in borders[-1:] if border not in found]
    whole = sum(costs) + MESSAGE_COST
    fitting = (place for place, cut in enumerate(found) if whole - dropped[cut] <= room)
    return found[next(fitting, -1) :]
