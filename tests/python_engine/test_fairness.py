"""Places in the batch and time for prompts are shared among clients, and among their requests."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import AsyncMLCEngine, EngineConfig
from mlc_edge.engine.prefill_pace import ALONE_S, PATIENCE_S, PrefillPace
from mlc_edge.errors import EngineError
from tests.python_engine.conftest import user

SMALL = {"messages": user("What is the capital of France?")}
# 256 sequences, as many as one request may have.
GREEDY: dict[str, Any] = {
    "prompt": [f"{index} times " * 12 for index in range(16)],
    "n": 16,
    "max_tokens": 24,
    "ignore_eos": True,
    "stream": True,
}


async def finished_choices(stream: Any, count: list[int]) -> None:
    async for chunk in stream:
        count[0] += sum(choice.finish_reason is not None for choice in chunk.choices)


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


@pytest.mark.parametrize("mode", ["interactive", "local", "server"])
def test_a_request_with_many_choices_leaves_room_for_a_small_one(pocket_bundle: Path, mode: str):
    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(mode=mode))
        stream = await engine.completions.create(**GREEDY)
        done = [0]
        counting = asyncio.create_task(finished_choices(stream, done))
        while not engine.stats().generated_tokens:
            await asyncio.sleep(0)
        before = done[0]
        answer = await engine.chat.completions.create(**SMALL)
        assert answer.choices[0].message.content == "The capital of France is Paris."
        # Each place in the batch may have finished one, and begun another.
        assert done[0] - before <= 2 * engine.batch_size
        await counting
        assert done[0] == 256
        await engine.close()

    run(ask)


def test_a_client_with_many_requests_leaves_room_for_another(pocket_bundle: Path):
    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(max_batch_size=2, max_queue=50))
        params = {"messages": user("Tell me a story."), "max_tokens": 40, "ignore_eos": True}
        greedy = [
            asyncio.create_task(engine.chat.completions.answer(params, client="greedy"))
            for _ in range(30)
        ]
        while engine.stats().requests < 30:
            await asyncio.sleep(0)
        await engine.chat.completions.answer(SMALL, client="small")
        assert sum(task.done() for task in greedy) <= 4
        await asyncio.gather(*greedy)
        await engine.close()

    run(ask)


def test_a_client_that_fills_the_queue_leaves_places_for_others(pocket_bundle: Path):
    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(mode="interactive", max_queue=2))
        endless = {"messages": user("Go on."), "ignore_eos": True, "stream": True}
        streams = [await engine.chat.completions.answer(endless, client="greedy") for _ in range(3)]
        with pytest.raises(EngineError, match="3 requests"):
            await engine.chat.completions.answer(endless, client="greedy")
        other = asyncio.create_task(engine.chat.completions.answer(SMALL, client="other"))
        while engine.stats().requests < 4:
            await asyncio.sleep(0)
        for stream in streams:
            await stream.aclose()
        assert (await other).choices[0].message.content == "The capital of France is Paris."
        await engine.close()

    run(ask)


def test_an_answer_that_is_complete_and_not_read_takes_no_place(pocket_bundle: Path):
    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(max_batch_size=1, max_queue=0))
        unread = await engine.chat.completions.answer({**SMALL, "stream": True}, client="same")
        while engine.stats().requests or not engine.stats().generated_tokens:
            await asyncio.sleep(0)
        await engine.chat.completions.answer(SMALL, client="same")
        await unread.aclose()
        await engine.close()

    run(ask)


def test_a_small_prompt_is_read_between_chunks_of_long_ones(pocket_bundle: Path):
    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(mode="server", prefill_threads=1))
        long_ones = [[20 + index, *range(30, 930)] for index in range(8)]
        stream = await engine.completions.create(
            prompt=long_ones, max_tokens=1, ignore_eos=True, stream=True
        )
        done = [0]
        counting = asyncio.create_task(finished_choices(stream, done))
        while not engine.stats().steps:
            await asyncio.sleep(0)
        await engine.chat.completions.create(**SMALL)
        assert done[0] <= 4
        await counting
        await engine.close()

    run(ask)


def test_what_took_over_the_cache_of_a_request_that_was_set_back_does_not_show(pocket_bundle: Path):
    """A parrot asks for the whole answer of a request while that is being written, and gets its place."""

    async def ask() -> None:
        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(max_batch_size=2))
        # Text alone, which becomes the same tokens again.
        greedy: dict[str, Any] = {"temperature": 0, "logit_bias": dict.fromkeys("012", -100)}
        told = {"prompt": "Tell me a story. " * 2, "max_tokens": 200, **greedy}
        expected = (await engine.completions.create(**told)).choices[0].text
        prompt = await engine.tokenize(f"{told['prompt']}{expected}")
        await engine.close()

        engine = AsyncMLCEngine(pocket_bundle, EngineConfig(max_batch_size=2))
        other = {"prompt": "Count. " * 3, "max_tokens": 400, **greedy}
        busy = asyncio.create_task(engine.completions.answer(other, client="author"))
        while not engine.stats().running:
            await asyncio.sleep(0)
        stream = await engine.completions.answer({**told, "stream": True}, client="author")
        texts = [(await anext(stream)).choices[0].text for _ in range(10)]
        parrot = {"prompt": prompt, "max_tokens": 8, **greedy}
        answer = await engine.completions.answer(parrot, client="parrot")
        assert answer.usage.prompt_tokens_details.cached_tokens > 16
        assert engine.stats().preemptions == 1
        texts += [chunk.choices[0].text async for chunk in stream]
        assert "".join(texts) == expected
        await busy
        await engine.close()

    run(ask)


def test_the_youngest_request_makes_way_with_all_its_choices(pocket_bundle: Path):
    """An older request's choices go on together, however late they began."""

    async def ask() -> None:
        config = EngineConfig(mode="server", max_total_tokens=288)
        engine = AsyncMLCEngine(pocket_bundle, config)
        endless = {"ignore_eos": True, "temperature": 1.0, "stream": True}
        order: list[str] = []

        async def read(name: str, stream: Any) -> None:
            async for chunk in stream:
                order.extend([name] * bool(chunk.choices[0].finish_reason))

        older = await engine.completions.create(
            prompt="Tell me a story. " * 4, n=4, max_tokens=90, **endless
        )
        await anext(older)
        younger = await engine.completions.create(prompt="Count.", max_tokens=80, **endless)
        await asyncio.gather(read("older", older), read("younger", younger))
        assert engine.stats().preemptions > 0
        assert order == ["older"] * 4 + ["younger"]
        await engine.close()

    run(ask)


def test_prompts_are_read_at_the_pace_that_the_device_showed():
    pace = PrefillPace(512)
    assert pace.tokens(answers_run=False) == 32
    pace.measured(32, 0.01)
    assert pace.tokens(answers_run=False) == 128
    for _ in range(20):
        pace.measured(128, 128 * 0.001)
    assert pace.tokens(answers_run=True) == int(PATIENCE_S / 0.001) // 16 * 16
    assert pace.tokens(answers_run=False) == 512
    for _ in range(20):
        pace.measured(128, 128 * 0.02)
    assert pace.tokens(answers_run=True) == 16
    assert pace.tokens(answers_run=False) == int(ALONE_S / 0.02) // 16 * 16
