"""The self-test's arithmetic against the golden vectors that the browser's engine is held to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_edge.engine.self_test import probe_input, self_test
from mlc_edge.errors import EngineError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/self_test.json").read_text())
CASES = GOLDEN["cases"]
NAMES = [
    f"{case['metadata']['self_test']['embedding']['layout']}-{case['metadata']['dtype']}"
    for case in CASES
]


class Parameters:
    def __init__(self, case: dict[str, Any]) -> None:
        self._arrays = {
            entry["name"]: np.array(entry["data"], entry["dtype"]).reshape(entry["shape"])
            for entry in case["parameters"]
        }

    def rows(self, name: str, rows: Sequence[int]) -> np.ndarray:
        return self._arrays[name][list(rows)]


class Device:
    """A model runner that gives what the vectors say."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.metadata = case["metadata"]
        self.parameters = Parameters(case)
        self.results = [np.array(values) for values in case["results"]]
        self.embeddings = np.array(case["embeddings"]).reshape(len(case["ids"]), -1)
        self.attended = np.array(case["attended"])
        self.steps = [np.ones(8), np.ones(8), np.ones(8)]
        self.sequences: list[int] = []
        self._ids = case["ids"]

    def call_with_parameters(self, function: str, *arguments: np.ndarray) -> list[np.ndarray]:
        widths = self.metadata["self_test"]["inputs"]
        assert function == "all" and [a.shape for a in arguments] == [(3, 1, w) for w in widths]
        return self.results

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        assert list(ids) == self._ids
        return self.embeddings

    def attend(self, sequence: int, qkv: np.ndarray) -> np.ndarray:
        assert sequence in self.sequences
        return self.attended

    def prefill(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray:
        return self.steps[0 if len(tokens[0]) == 4 else 1][None]

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
        return self.steps[2][None]

    def add_sequence(self, sequence: int) -> None:
        self.sequences.append(sequence)

    def remove_sequence(self, sequence: int) -> None:
        self.sequences.remove(sequence)


def test_inputs_are_the_same_in_all_engines():
    inputs = GOLDEN["input"]
    found = probe_input(inputs["rows"], inputs["width"]) * 128
    np.testing.assert_array_equal(found, inputs["in_128ths"])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_is_right_passes_and_leaves_no_sequence(case: dict[str, Any]):
    device = Device(case)
    self_test(device)  # type: ignore[arg-type]
    assert device.sequences == []


def refused(device: Device) -> str:
    with pytest.raises(EngineError, match="computes wrong results") as error:
        self_test(device)  # type: ignore[arg-type]
    assert device.sequences == []
    return str(error.value)


@pytest.mark.parametrize("wrong", [lambda value: value * 1.1 + 0.01, lambda _: np.nan])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_every_wrong_result_is_noticed(case: dict[str, Any], wrong: Any):
    for place, values in enumerate(case["results"]):
        device = Device(case)
        device.results[place][-1] = wrong(values[-1])
        assert "for 3 rows" in refused(device)
    device = Device(case)
    device.embeddings[1, 7] = wrong(device.embeddings[1, 7])
    assert "embeddings" in refused(device)
    device = Device(case)
    device.attended[7] = wrong(-device.attended[7])
    assert "attention" in refused(device)
    for step in (0, 2):
        device = Device(case)
        device.steps[step] = device.steps[step] * -wrong(1)
        assert "in two steps differ" in refused(device)
