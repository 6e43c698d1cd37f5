"""A model runner that fails on demand: what an engine meets when a library or a device breaks."""

from collections.abc import Sequence

import numpy as np

from mlc_edge.model_runner import Logits, ModelRunner

# Sequences with this token in their prompt are the ones that something happens to.
MARKED = 777


class FaultyRunner(ModelRunner):
    """`nan`: marked sequences get logits that are no numbers; `fails`: steps with one raise an error."""

    nan = False
    fails = False
    cannot_reset = False

    def _marked(self) -> set[int]:
        self.__dict__.setdefault("marked", set())
        marked: set[int] = self.__dict__["marked"]
        return marked

    def prefill(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        self._marked().update(s for s, run in zip(sequences, tokens, strict=True) if MARKED in run)
        return self._spoil(sequences, super().prefill(sequences, tokens))

    def decode(self, sequences: Sequence[int], token_ids: Sequence[int]) -> Logits:
        return self._spoil(sequences, super().decode(sequences, token_ids))

    def reset(self) -> None:
        if self.cannot_reset:
            raise RuntimeError("the device is gone")
        self._marked().clear()
        super().reset()

    def remove_sequence(self, sequence: int) -> None:
        self._marked().discard(sequence)
        super().remove_sequence(sequence)

    def _spoil(self, sequences: Sequence[int], logits: Logits) -> Logits:
        rows = [row for row, sequence in enumerate(sequences) if sequence in self._marked()]
        if rows and self.fails:
            raise RuntimeError("a kernel failed")
        if rows and self.nan:
            logits = logits.copy()
            logits[rows] = np.nan
        return logits
