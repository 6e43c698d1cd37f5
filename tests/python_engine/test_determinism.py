"""Deterministic requests: the same bits whatever is cached, and whatever else is in the batch."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import AsyncMLCEngine, EngineConfig, MLCEngine

LENGTHS = (1, 2, 17, 63, 64, 65, 66, 127, 128, 129, 130, 190)
# Threads that share their cores with other tests wait for each other.
ONE_THREAD: dict[str, Any] = {"prefill_threads": 1, "decode_threads": 1}
Answer = tuple[str, tuple[float, ...]]


def random_tokens(draw: random.Random, count: int) -> list[int]:
    """Of tokens at random near ties abound: one bit of a logit in a hundred thousand shows."""
    return [draw.randrange(20, 900) for _ in range(count)]


def make_prompts(count: int) -> list[list[int]]:
    """Prompts of many lengths; each third begins like the one before."""
    draw = random.Random(1)
    prompts: list[list[int]] = []
    for index in range(count):
        shared = prompts[-1][: draw.randrange(200)] if index % 3 == 2 else []
        length = LENGTHS[index % len(LENGTHS)] if index % 2 else draw.randrange(1, 200)
        prompts.append([*shared, *random_tokens(draw, length)])
    return prompts


PROMPTS = make_prompts(100)


def request(index: int, **more: Any) -> dict[str, Any]:
    return {
        "prompt": PROMPTS[index],
        "max_tokens": 12,
        "ignore_eos": True,
        "temperature": 1.0,
        "seed": index,
        "logprobs": 1,
        "deterministic": True,
        **more,
    }


def bits(completion: Any) -> Answer:
    choice = completion.choices[0]
    return choice.text, choice.logprobs.token_logprobs


async def ask(engine: AsyncMLCEngine, index: int, **more: Any) -> Answer:
    return bits(await engine.completions.create(**request(index, **more)))


@pytest.fixture(scope="module")
def cold(pocket_bundle: Path) -> list[Answer]:
    """Each answer of an engine that has nothing of its prompt in the cache."""
    answers: dict[int, Answer] = {}
    thirds = [i for i in range(len(PROMPTS)) if i % 3 == 2]
    for indices in (thirds, sorted(set(range(len(PROMPTS))) - set(thirds))):
        with MLCEngine(pocket_bundle, EngineConfig(mode="interactive", **ONE_THREAD)) as engine:
            answers |= {
                index: bits(engine.completions.create(**request(index))) for index in indices
            }
            assert engine.stats().cached_prompt_tokens == 0
    return [answers[index] for index in range(len(PROMPTS))]


def test_what_is_cached_does_not_show(pocket_bundle: Path, cold: list[Answer]):
    with MLCEngine(pocket_bundle, EngineConfig(mode="interactive", **ONE_THREAD)) as engine:
        for index, expected in enumerate(cold):
            assert bits(engine.completions.create(**request(index))) == expected
            longer = [*PROMPTS[index], *random_tokens(random.Random(index), 40)]
            engine.completions.create(prompt=longer, max_tokens=2, deterministic=index % 2 == 0)
            again = engine.completions.create(**request(index))
            assert bits(again) == expected
        assert engine.stats().cached_prompt_tokens > 5000


def test_a_busy_batch_does_not_show(pocket_bundle: Path, cold: list[Answer]):
    async def noise(engine: AsyncMLCEngine, index: int) -> None:
        """Requests that share the prompts' beginnings, in batches, with several choices each."""
        prompt = PROMPTS[index][: random.Random(index).randrange(1, 200)]
        more: dict[str, Any] = {"max_tokens": 15, "ignore_eos": True, "temperature": 1.0}
        await engine.completions.create(prompt=prompt, n=1 + index % 3, **more)

    async def run() -> list[Answer]:
        # Too little room for all: sequences are set back, and begin anew.
        config = EngineConfig(mode="server", max_queue=999, max_total_tokens=1024, **ONE_THREAD)
        engine = AsyncMLCEngine(pocket_bundle, config)
        try:
            noises = [noise(engine, index) for index in range(len(PROMPTS))]
            answers = [ask(engine, index) for index in range(len(PROMPTS))]
            mixed = [task for pair in zip(noises, answers, strict=True) for task in pair]
            results = await asyncio.gather(*mixed)
            assert engine.stats().preemptions > 0
            return results[1::2]
        finally:
            await engine.close()

    assert asyncio.run(run()) == cold


def test_the_nth_choice_does_not_depend_on_how_many_there_are(pocket_bundle: Path):
    with MLCEngine(pocket_bundle, EngineConfig(deterministic=True)) as engine:
        asked = {**request(5), "deterministic": None}
        alone = engine.completions.create(**asked)
        few = engine.completions.create(**asked, n=2)
        many = engine.completions.create(**asked, n=5)
        assert [c.logprobs for c in many.choices[:2]] == [c.logprobs for c in few.choices]
        assert bits(many) == bits(few) == bits(alone)
        assert many.usage.prompt_tokens == few.usage.prompt_tokens == len(PROMPTS[5])


def test_what_was_decoded_is_read_anew(pocket_bundle: Path):
    """Decoding computes one token at a time: its keys and values are not those of a chunk."""
    begin = "<|im_start|>user\nTell me a story about a {}.<|im_end|>\n<|im_start|>assistant\n"
    asked: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "logprobs": 1}

    def next_turns(engine: MLCEngine, *, first: bool) -> list[Answer]:
        answers = []
        for animal in ("fox", "bear", "cat", "robot", "whale"):
            prompt = begin.format(animal)
            if first:
                told = engine.completions.create(prompt=prompt, max_tokens=150, **asked)
                stories.append(f"{prompt}{told.choices[0].text}<|im_end|>\n")
            answers.append(
                bits(
                    engine.completions.create(prompt=stories[len(answers)], max_tokens=20, **asked)
                )
            )
        return answers

    stories: list[str] = []
    config = EngineConfig(mode="interactive", deterministic=True, **ONE_THREAD)
    with MLCEngine(pocket_bundle, config) as engine:
        warm = next_turns(engine, first=True)
    with MLCEngine(pocket_bundle, config) as engine:
        assert next_turns(engine, first=False) == warm
