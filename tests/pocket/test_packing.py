from itertools import islice

import numpy as np

from models.pocket.training.conversations import stream
from models.pocket.training.packing import batches, pack
from models.pocket.training.tokenizer import train_tokenizer


def test_rows_hold_whole_conversations_with_shifted_targets():
    documents = [([5, 6, 7], [False, True, True]), ([8, 9], [False, True])]
    batch, left = pack(documents, rows=1, row_tokens=6)
    assert not left
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 3, 3, -1]]
    assert batch.targets.tolist() == [[6, 7, -1, 9, -1, -1]]


def test_what_finds_no_room_is_handed_back():
    documents = [([1] * 4, [True] * 4), ([2] * 3, [True] * 3)]
    batch, left = pack(documents, rows=1, row_tokens=5)
    assert left == [([2] * 3, [True] * 3)]
    assert (batch.tokens == 1).sum() == 4


def test_batches_are_deterministic_and_nearly_full():
    tokenizer = train_tokenizer(islice(stream(0), 500), vocab_size=512)
    for long, row_tokens in ((False, 512), (True, 1024)):
        first, second = (
            batches(tokenizer, seed=1, batch_tokens=4096, row_tokens=row_tokens, long=long)
            for _ in range(2)
        )
        for a, b in islice(zip(first, second, strict=True), 3):
            assert np.array_equal(a.tokens, b.tokens)
            assert a.tokens.shape == (4096 // row_tokens, row_tokens)
            assert (a.documents >= 0).mean() > (0.6 if long else 0.9)
