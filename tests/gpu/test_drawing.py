"""Tokens drawn on the device, against the samplers' definition in double precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm.target import Target

from tests.golden.sampling import draw, logits, logprobs, uniform
from tests.gpu.models import target_name
from tests.gpu.programs import compiled
from webbuild.kernels.drawing import adjust_program
from webbuild.kernels.gpu.chunks import CHUNK, chunks_of, weigh_chunks
from webbuild.kernels.gpu.drawing import draw_from_chunks
from webbuild.kernels.interface import DRAW_HEAD, MOST_TOP
from webbuild.targets import profiles_for

SMALL, LARGE, HUGE = 5003, 151_936, 270_001
# Of log probabilities, absolute and relative.
LOGPROB = 1e-6
Row = np.ndarray
Adjustments = dict[int, tuple[float, float]]


class Device:
    """The programs for vocabularies of up to so many tokens."""

    def __init__(self, vocabulary: int, folder: Path) -> None:
        self.vocabulary = vocabulary
        self._gpu = tvm.device("webgpu", 0)
        (profile,) = profiles_for(target_name("f32"), "q4f16_1")
        programs = {
            "adjust": adjust_program(vocabulary),
            "weigh": weigh_chunks(vocabulary),
            "draw": draw_from_chunks(vocabulary),
        }
        with Target(profile.tvm_target, host=profile.tvm_host) as target:
            self._call = compiled(programs, target, folder / f"{vocabulary}.so")

    def draw(
        self, row: Row, settings: dict[str, Any], u: float, adjustments: Adjustments | None = None
    ) -> np.ndarray:
        """As `Kernels.draw`; logits that belong to no token aren't numbers."""
        padded = np.full(self.vocabulary, np.nan, np.float32)
        padded[: len(row)] = row
        temperature = settings.get("temperature", 1)
        numbers = [
            *(len(row), u, min(2 / temperature, 3e38) if temperature > 1e-300 else 0),
            *(-20 * temperature, min(settings.get("top_k", len(row)), len(row))),
            *(max(settings.get("top_p", 1), 1e-12), settings.get("min_p", 0)),
            settings.get("top_logprobs", 0),
        ]
        if 0 < temperature <= 1e-300:
            numbers[2] = 3e38
        given = self._array(padded)
        if adjustments:
            # The last one is none.
            ids = np.array([*adjustments, -1], np.int32)
            values = np.array([*adjustments.values(), (1, 0)], np.float32)
            self._call("adjust")(given, self._array(ids), self._array(values))
        places = (chunks_of(self.vocabulary), CHUNK)
        chunks = [
            self._array(np.full(places, 0x7FC00000, np.int32).view(dtype))
            for dtype in (np.uint32, np.int32, np.float32)
        ]
        chunks.append(self._array(np.full((places[0], 2), np.nan, np.float32)))
        out = self._array(np.full(DRAW_HEAD + 2 * MOST_TOP, -1, np.int32))
        request = self._array(np.array(numbers, np.float32))
        self._call("weigh")(given, request, *chunks)
        self._call("draw")(given, request, *chunks, out)
        return out.numpy()

    def _array(self, values: np.ndarray) -> Any:
        return tvm.runtime.tensor(values, self._gpu)


@pytest.fixture(scope="module")
def on_device(device: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Device]:
    folder = tmp_path_factory.mktemp("drawing")
    made: dict[int, Device] = {}

    def find(count: int) -> Device:
        vocabulary = min(size for size in (SMALL, LARGE, HUGE) if count <= size)
        if vocabulary not in made:
            made[vocabulary] = Device(vocabulary, folder)
        return made[vocabulary]

    return find


def reported(out: np.ndarray, count: int) -> tuple[list[Any], list[list[Any]]]:
    """The token and its log probability, and the first tokens with theirs."""
    floats = out.view(np.float32).astype(np.float64)

    def logprob(score: float) -> float:
        relative = 0 if score == floats[2] else score - floats[2]
        return max(relative - np.log(floats[3]), -9999)

    top = [
        [int(out[place]), logprob(floats[place + 1])]
        for place in range(DRAW_HEAD, DRAW_HEAD + 2 * count, 2)
    ]
    return [int(out[0]), logprob(floats[1])], top


def assert_near(found: list[Any], wanted: list[Any]) -> None:
    assert found[0] == wanted[0]
    assert found[1] == pytest.approx(wanted[1], abs=LOGPROB, rel=LOGPROB)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {},
        {"temperature": 0.6, "top_p": 0.95},
        {"top_k": 40, "top_p": 0.9, "top_logprobs": 20},
        {"temperature": 1.3, "top_k": 3000, "top_p": 0.99, "min_p": 0.002},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 1023, 1025, 4999, LARGE, LARGE - 1, HUGE])
def test_tokens_of_random_logits_are_the_definitions(
    on_device: Callable[[int], Device], count: int, settings: dict[str, Any]
):
    """Where a number lies too near a border for single precision, either side of it is right."""
    rows = {
        "vocabulary": count,
        "seed": 7,
        "scale": 7.0,
        "levels": 64,
        "peaks": 25,
        "lift": 6.0,
    }
    clear = 0
    for step in range(3):
        row, u = logits(rows, step), uniform(3, 0, step)
        sample, top = reported(
            on_device(count).draw(row, settings, u), min(settings.get("top_logprobs", 0), count)
        )
        expected = logprobs(row.astype(np.float64))
        token, is_clear = draw(row.astype(np.float64), settings, u)
        clear += is_clear
        assert sample[0] == token or not is_clear
        assert_near(sample, [sample[0], expected[sample[0]]])
        best = np.lexsort((np.arange(count), -row))[: len(top)]
        for found, id in zip(top, best, strict=True):
            assert_near(found, [int(id), expected[id]])
    assert clear


def test_infinities_and_what_are_no_numbers_stay_so(on_device: Callable[[int], Device]):
    row = np.array([-np.inf, 1, 3e38, np.inf], np.float32)
    touched = {0: (2.0, 50.0), 2: (0.01, 7.0), 3: (2.0, -50.0)}
    out = on_device(4).draw(row, {"temperature": 0, "top_logprobs": 4}, 0, touched)
    scores = out.view(np.float32)[DRAW_HEAD + 1 : DRAW_HEAD + 9 : 2]
    assert out[DRAW_HEAD : DRAW_HEAD + 8 : 2].tolist() == [3, 2, 1, 0]
    assert scores.tolist() == [np.inf, np.finfo(np.float32).max, 1, -np.inf]
    for damaged in (np.nan, -np.nan):
        row = np.full(2000, 1, np.float32)
        row[1500] = damaged
        out = on_device(2000).draw(row, {}, 0.5, {1500: (2.0, 1.0)})
        assert np.isnan(out.view(np.float32)[2])
