"""A model runner with one sequence, for what is about numbers and not about batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_edge.model_runner import CacheSizes, ModelRunner

SEQUENCE = 0


class OneSequence:
    """Token ids in, logits float32 [V] out."""

    def __init__(self, bundle: Path, target: str = "native") -> None:
        self.runner = ModelRunner(bundle, target)
        self.metadata, self.call = self.runner.metadata, self.runner.call
        self._chunk = self.runner.prefill_chunk_size
        window = self.runner.context_window_size
        self.runner.create_cache(CacheSizes(1, window, self._chunk))
        self.runner.add_sequence(SEQUENCE)

    def reset(self) -> None:
        self.runner.reset()
        self.runner.add_sequence(SEQUENCE)

    def pop(self, count: int) -> None:
        self.runner.pop(SEQUENCE, count)

    def prefill(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        for start in range(0, len(tokens), self._chunk):
            logits = self.runner.prefill([SEQUENCE], [tokens[start : start + self._chunk]])
        return logits[0]

    def decode(self, token: int) -> npt.NDArray[np.float32]:
        return self.runner.decode([SEQUENCE], [token])[0]

    def verify(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        return self.runner.verify(SEQUENCE, tokens)
