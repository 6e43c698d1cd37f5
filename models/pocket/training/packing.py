"""Conversations packed into rows of one length, with hardly any padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from models.pocket.training import conversations
from models.pocket.training.tokenizer import END_OF_TEXT_ID, encode_marked

Marked = tuple[list[int], list[bool]]


@dataclass(frozen=True)
class Batch:
    """Packed rows; all arrays are [rows, row_tokens]."""

    tokens: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    """Place within the conversation."""
    documents: npt.NDArray[np.int64]
    """Which conversation of the row; a token attends to its own only."""
    targets: npt.NDArray[np.int64]
    """The next token where the model has to say it, -1 elsewhere."""


def pack(documents: Sequence[Marked], *, rows: int, row_tokens: int) -> tuple[Batch, list[Marked]]:
    """Fill rows, longest conversation first; also returns what found no room."""
    shape = (rows, row_tokens)
    batch = Batch(
        tokens=np.full(shape, END_OF_TEXT_ID, np.int64),
        positions=np.zeros(shape, np.int64),
        documents=np.full(shape, -1, np.int64),
        targets=np.full(shape, -1, np.int64),
    )
    used = [0] * rows
    left: list[Marked] = []
    for ids, marks in sorted(documents, key=lambda d: len(d[0]), reverse=True):
        ids, marks = ids[:row_tokens], marks[:row_tokens]
        room = [r for r in range(rows) if used[r] + len(ids) <= row_tokens]
        if not room:
            left.append((ids, marks))
            continue
        # The fullest row that still has room wastes least.
        row = max(room, key=lambda r: used[r])
        start, end = used[row], used[row] + len(ids)
        batch.tokens[row, start:end] = ids
        batch.positions[row, start:end] = np.arange(len(ids))
        batch.documents[row, start:end] = start
        batch.targets[row, start : end - 1] = np.where(marks[1:], ids[1:], -1)
        used[row] = end
    return batch, left


def batches(
    tokenizer: Tokenizer, *, seed: int, batch_tokens: int, row_tokens: int, long: bool
) -> Iterator[Batch]:
    """Batches of about `batch_tokens` tokens without end, the same for the same seed."""
    source = conversations.stream(seed, long=long)
    pool: list[Marked] = []
    rows = max(1, batch_tokens // row_tokens)
    while True:
        waiting = sum(len(ids) for ids, _ in pool)
        while waiting < 1.3 * rows * row_tokens:
            fresh = encode_marked(tokenizer, list(islice(source, 16)))
            pool += fresh
            waiting += sum(len(ids) for ids, _ in fresh)
        batch, pool = pack(pool, rows=rows, row_tokens=row_tokens)
        yield batch
