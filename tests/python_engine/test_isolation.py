"""One request's trouble stays its own, and an engine that can't go on says so to everybody."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import mlc_edge.devices as devices_module
from mlc_edge import AsyncMLCEngine, EngineConfig, MLCEngine
from mlc_edge.engine.conversation import Conversation
from mlc_edge.engine.protocol import ChatMessage
from mlc_edge.errors import EngineError
from tests.python_engine.conftest import text_of, user
from tests.python_engine.faulty import MARKED, FaultyRunner

BAD: dict[str, Any] = {"prompt": [MARKED, 5, 6, 7], "max_tokens": 50, "ignore_eos": True}
CAPITAL = "The capital of France is Paris."


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyRunner]:
    class Runner(FaultyRunner):
        """Of one test."""

    monkeypatch.setattr(devices_module, "ModelRunner", Runner)
    return Runner


async def start_stream(engine: AsyncMLCEngine, **params: Any) -> Any:
    stream = await engine.chat.completions.create(
        messages=user("Tell me a story."), ignore_eos=True, stream=True, **params
    )
    await anext(stream)
    return stream


async def rest_of(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_logits_that_are_no_numbers_end_their_request_alone(
    pocket_bundle: Path, faulty: type[FaultyRunner]
):
    faulty.nan = True

    async def run() -> tuple[list[str], int]:
        engine = AsyncMLCEngine(pocket_bundle)
        streams = [
            await start_stream(engine, max_tokens=60, seed=n, deterministic=True) for n in range(2)
        ]
        with pytest.raises(EngineError) as error:
            await engine.completions.create(**BAD, temperature=0.9)
        assert error.value.code == "internal"
        with pytest.raises(EngineError) as error:
            await engine.completions.create(**BAD, temperature=0)
        with pytest.raises(EngineError):
            await engine.completions.create(prompt=[[MARKED, 5], [6, 7]], max_tokens=1)
        texts = [await rest_of(stream) for stream in streams]
        running = engine.stats().requests
        await engine.close()
        return texts, running

    texts, running = asyncio.run(run())
    assert running == 0
    with MLCEngine(pocket_bundle) as alone:
        assert texts == [
            text_of(
                alone,
                "Tell me a story.",
                ignore_eos=True,
                max_tokens=60,
                seed=n,
                deterministic=True,
            )
            for n in range(2)
        ]


def test_a_failure_of_the_library_spares_who_waits(pocket_bundle: Path, faulty: type[FaultyRunner]):
    faulty.fails = True

    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(max_batch_size=2))
        before = engine.stats().kv_tokens_used
        running = await start_stream(engine)
        failing = asyncio.create_task(engine.completions.create(**BAD))
        question = user("What is the capital of France?")
        waiting = asyncio.create_task(engine.chat.completions.create(messages=question))
        with pytest.raises(EngineError) as error:
            await failing
        assert error.value.code == "internal"
        with pytest.raises(EngineError):
            await rest_of(running)
        assert (await waiting).choices[0].message.content == CAPITAL
        again = await engine.chat.completions.create(messages=question)
        assert again.choices[0].message.content == CAPITAL
        stats = engine.stats()
        assert (stats.requests, stats.running, stats.waiting) == (0, 0, 0)
        assert stats.kv_tokens_used - before <= stats.prefix_cached_tokens + 32
        await engine.close()

    asyncio.run(run())


def test_an_engine_that_cannot_go_on_ends_and_says_so(
    pocket_bundle: Path, faulty: type[FaultyRunner]
):
    faulty.fails = faulty.cannot_reset = True

    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(mode="interactive"))
        failing = asyncio.create_task(engine.completions.create(**BAD))
        waiting = asyncio.create_task(engine.chat.completions.create(messages=user("Hello")))
        for task in (failing, waiting):
            with pytest.raises(EngineError) as error:
                await task
            assert error.value.code == "engine_stopped"
        with pytest.raises(RuntimeError, match="gone"):
            await asyncio.wrap_future(engine.ended)
        with pytest.raises(EngineError) as error:
            await engine.chat.completions.create(messages=user("Hello"))
        assert error.value.code == "engine_stopped"
        with pytest.raises(EngineError):
            engine.check()
        await engine.close()

    asyncio.run(run())


def test_a_long_conversation_is_given_up_with_its_client(
    pocket_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    passes: list[int] = []
    begun, may_go_on = threading.Event(), threading.Event()
    tokens = Conversation.tokens

    def watched(
        self: Conversation, messages: Sequence[ChatMessage], begun_with: str = ""
    ) -> list[int]:
        passes.append(len(messages))
        if len(messages) > 1:
            begun.set()
            assert may_go_on.wait(60)
        return tokens(self, messages, begun_with)

    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(context_policy="truncate-oldest"))
        turns = [
            {"role": ("user", "assistant")[n % 2], "content": "Hello. " * 9} for n in range(99)
        ]
        with monkeypatch.context() as patch:
            patch.setattr(Conversation, "tokens", watched)
            leaving = asyncio.create_task(engine.chat.completions.create(messages=turns))
            await asyncio.to_thread(begun.wait, 60)
            leaving.cancel()
            await asyncio.wait([leaving])
            may_go_on.set()
            await engine.chat.completions.create(messages=user("Hello"), max_tokens=1)
            await engine.close()
        assert sorted(passes) == [1, 99]

    asyncio.run(run())


def test_an_event_loop_that_ends_takes_nobody_along(pocket_bundle: Path):
    engine = AsyncMLCEngine(pocket_bundle)
    left_behind = asyncio.new_event_loop()
    abandoned = left_behind.run_until_complete(start_stream(engine))
    left_behind.close()

    async def run() -> None:
        answer = await engine.chat.completions.create(
            messages=user("What is the capital of France?")
        )
        assert answer.choices[0].message.content == CAPITAL
        await engine.close()

    asyncio.run(run())
    assert abandoned
