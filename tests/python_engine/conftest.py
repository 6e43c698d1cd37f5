"""The embedded model behind the engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine

OpenEngine = Callable[..., MLCEngine]


@pytest.fixture(scope="session")
def engine(pocket_bundle: Path) -> Iterator[MLCEngine]:
    """Shared by tests that don't look at its counters."""
    with MLCEngine(pocket_bundle) as engine:
        yield engine


@pytest.fixture
def open_engine(pocket_bundle: Path) -> Iterator[OpenEngine]:
    """Makes engines of one's own, by the fields of EngineConfig."""
    opened: list[MLCEngine] = []

    def open(**config: object) -> MLCEngine:
        opened.append(MLCEngine(pocket_bundle, EngineConfig(**config)))
        return opened[-1]

    yield open
    for engine in opened:
        engine.close()


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def text_of(engine: MLCEngine, question: str, **params: object) -> str:
    answer = engine.chat.completions.create(messages=user(question), **params)
    return answer.choices[0].message.content
