"""The embedded model, compiled for this machine, behind the engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlc_edge import EngineConfig, MLCEngine
from tests.build.conftest import run_build

OpenEngine = Callable[..., MLCEngine]
POCKET = Path(__file__).parents[2] / "models" / "pocket"


@pytest.fixture(scope="session")
def pocket_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("engine") / "pocket-q4f16_1"
    options = ("--target", "native", "--prefill-chunk-size", 64)
    result = run_build(POCKET, *options, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


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
