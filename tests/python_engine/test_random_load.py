"""Requests of all kinds come, share, grow, are cancelled and dropped at random: nothing is left behind."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import AsyncMLCEngine, EngineConfig, MLCEngine
from mlc_edge.errors import EngineError

CACHE_TOKENS = 1536
REQUESTS = 150
BEGINNINGS = ["Tell me a story. " * 3, "What is 17 + 25? " * 6, "My name is Ada. " * 12, "Hi"]


def random_request(draw: random.Random) -> dict[str, Any]:
    prompts = [
        draw.choice(BEGINNINGS) + " ".join(str(draw.random()) for _ in range(draw.randrange(4)))
        for _ in range(draw.choice([1, 1, 1, 3, 16]))
    ]
    return {
        "prompt": prompts,
        "n": draw.choice([1, 1, 2, 5]),
        "max_tokens": draw.choice([1, 2, 17, 60]),
        "temperature": draw.choice([0, 0.7, 2]),
        "top_p": draw.choice([0, 0.9, 1]),
        "logprobs": draw.choice([None, None, 0, 5]),
        "echo": draw.random() < 0.2,
        "ignore_eos": draw.random() < 0.5,
        "deterministic": draw.choice([None, True]),
    }


async def one(engine: AsyncMLCEngine, draw: random.Random) -> str:
    request = random_request(draw)
    how = draw.choice(["whole", "stream", "closed", "dropped", "cancelled"])
    answer = engine.completions.answer(
        {**request, "stream": how in ("stream", "closed", "dropped")},
        client=draw.choice([None, "a", "b"]),
    )
    try:
        if how == "whole":
            await answer
        elif how == "cancelled":
            task = asyncio.ensure_future(answer)
            for _ in range(draw.randrange(30)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        else:
            await read(await answer, how, draw.randrange(20))
    except EngineError as error:
        return error.code
    return "done"


async def read(stream: Any, how: str, count: int) -> None:
    async for _ in stream:
        count -= 1
        if count < 0 and how == "closed":
            await stream.aclose()
            return
        if count < 0 and how == "dropped":
            return


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_left_behind(pocket_bundle: Path, seed: int):
    draw = random.Random(seed)

    async def run() -> None:
        threads: dict[str, Any] = {"prefill_threads": 1, "decode_threads": 1}
        config = EngineConfig(
            mode="server", max_batch_size=6, max_total_tokens=CACHE_TOKENS, max_queue=9, **threads
        )
        engine = AsyncMLCEngine(pocket_bundle, config)
        outcomes: list[str] = []
        pending: set[asyncio.Task[str]] = set()
        for _ in range(REQUESTS):
            pending.add(asyncio.create_task(one(engine, draw)))
            if len(pending) > draw.randrange(12):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                outcomes += [task.result() for task in done]
        outcomes += await asyncio.gather(*pending)
        assert set(outcomes) <= {"done", "queue_full"}
        assert outcomes.count("done") > REQUESTS / 3
        while engine.stats().requests:
            await asyncio.sleep(0)
        # What was kept for its prefixes makes way: all that is in use then is this request's.
        whole = [[20 + i % 800 for i in range(1000)]]
        await engine.completions.create(prompt=whole, max_tokens=8, ignore_eos=True)
        await engine.completions.create(prompt=[[7] * 1000], max_tokens=8, ignore_eos=True)
        stats = engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        assert stats.kv_tokens_used <= 1024
        await engine.close()

    asyncio.run(run())


def test_many_short_prompts_are_forgotten_with_their_pages(pocket_bundle: Path):
    threads: dict[str, Any] = {"prefill_threads": 1, "decode_threads": 1}
    config = EngineConfig(mode="server", max_total_tokens=CACHE_TOKENS, **threads)
    with MLCEngine(pocket_bundle, config) as engine:
        for first in range(20, 20 + 2 * CACHE_TOKENS // 16):
            engine.completions.create(prompt=[[first, first + 1]], max_tokens=1)
        used = engine.stats().kv_tokens_used
        assert used < CACHE_TOKENS
        prompt = [[20 + i % 800 for i in range(1000)]]
        assert engine.completions.create(prompt=prompt, max_tokens=1).usage.prompt_tokens == 1000
