"""Requests that share batches, cache and time get what each would get alone."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from mlc_edge import AsyncMLCEngine, EngineConfig, MLCEngine
from mlc_edge.errors import EngineError
from mlc_edge.openai import ChatCompletion
from tests.python_engine.conftest import OpenEngine, text_of, user

QUESTIONS = [
    *(f"What is the capital of {country}?" for country in ("France", "Japan", "Peru", "Egypt")),
    *(f"What is {a} + {b}?" for a, b in ((3, 4), (12, 30), (45, 18), (7, 70))),
    *(f"My name is {name}. What is my name?" for name in ("Ada", "Linus", "Grace", "Alan")),
    *("Tell me a story about a fox. " * count for count in (1, 3, 6, 9)),
]
CANCELLED = {2, 7, 13}
SAMPLED = set(range(0, len(QUESTIONS), 3))


def request(index: int) -> dict:
    """Lengths and settings differ from one request to the next."""
    sampled = {"temperature": 1.0, "top_p": 0.9, "seed": index} if index in SAMPLED else {}
    length = {"max_tokens": 8 + 5 * index, "ignore_eos": True}
    return {"messages": user(QUESTIONS[index]), **length, **sampled}


async def ask_staggered(engine: AsyncMLCEngine) -> dict[int, str]:
    """All questions, one begun with each chunk of the first; some are cancelled on the way."""
    texts: dict[int, str] = {}

    async def whole(index: int) -> None:
        answer = await engine.chat.completions.create(**request(index))
        texts[index] = answer.choices[0].message.content

    async def given_up(index: int) -> None:
        stream = await engine.chat.completions.create(**request(index), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.aclose()

    first = await engine.chat.completions.create(
        messages=user("Tell me a story."), ignore_eos=True, max_tokens=200, stream=True
    )
    tasks = []
    async for _ in first:
        if len(tasks) < len(QUESTIONS):
            index = len(tasks)
            ask = given_up if index in CANCELLED else whole
            tasks.append(asyncio.create_task(ask(index)))
    await asyncio.gather(*tasks)
    return texts


@pytest.fixture(scope="module")
def alone(pocket_bundle: Path) -> dict[int, str]:
    """Each answer from an engine that does nothing else and remembers nothing."""
    texts = {}
    for index in range(len(QUESTIONS)):
        if index not in CANCELLED:
            config = EngineConfig(mode="interactive", deterministic=True)
            with MLCEngine(pocket_bundle, config) as engine:
                answer = engine.chat.completions.create(**request(index))
                texts[index] = answer.choices[0].message.content
    return texts


def run_staggered(bundle: Path, **config: object) -> tuple[dict[int, str], int]:
    """Texts by question, and how many requests were set back."""

    async def run() -> tuple[dict[int, str], int]:
        engine = AsyncMLCEngine(bundle, EngineConfig(**config))
        try:
            texts = await ask_staggered(engine)
            stats = engine.stats()
            assert (stats.running, stats.waiting) == (0, 0)
            return texts, stats.preemptions
        finally:
            await engine.close()

    return asyncio.run(run())


def test_sixteen_staggered_requests_get_their_own_answers(
    pocket_bundle: Path, alone: dict[int, str]
):
    texts, preemptions = run_staggered(pocket_bundle, mode="server", deterministic=True)
    assert texts == alone
    assert preemptions == 0


def test_a_cache_too_small_for_all_loses_nothing(pocket_bundle: Path, alone: dict[int, str]):
    texts, preemptions = run_staggered(
        pocket_bundle, mode="server", max_total_tokens=512, deterministic=True
    )
    assert texts == alone
    assert preemptions > 0


def test_shared_prefixes_change_no_greedy_answer(pocket_bundle: Path, alone: dict[int, str]):
    texts, preemptions = run_staggered(pocket_bundle, mode="server", max_total_tokens=512)
    greedy = alone.keys() - SAMPLED
    assert {i: texts[i] for i in greedy} == {i: alone[i] for i in greedy}
    assert preemptions > 0


def test_who_has_no_room_waits_instead_of_being_set_back(pocket_bundle: Path):
    async def run() -> int:
        config = EngineConfig(mode="server", max_total_tokens=512)
        engine = AsyncMLCEngine(pocket_bundle, config)
        prompts = [[20 + index, *range(30, 230)] for index in range(8)]
        answers = [engine.completions.create(prompt=[p], max_tokens=1) for p in prompts]
        await asyncio.gather(*answers)
        preemptions = engine.stats().preemptions
        await engine.close()
        return preemptions

    assert asyncio.run(run()) == 0


def test_a_long_prompt_does_not_stall_others(open_engine: OpenEngine):
    engine = open_engine()
    stream = engine.chat.completions.create(
        messages=user("Tell me a story."), ignore_eos=True, max_tokens=400, stream=True
    )
    next(stream)
    done = threading.Event()

    def read_long_prompt() -> None:
        text_of(engine, "a b c d " * 200, max_tokens=1)
        done.set()

    thread = threading.Thread(target=read_long_prompt)
    thread.start()
    meanwhile = 0
    for chunk in stream:
        meanwhile += bool(chunk.choices[0].delta.content) and not done.is_set()
    thread.join()
    # The prompt takes more than ten chunks; a token of the other answer comes between two.
    assert meanwhile >= 5


def test_an_answer_depends_on_its_seed_alone(open_engine: OpenEngine):
    engine = open_engine()
    params = {"temperature": 1.5, "max_tokens": 30, "deterministic": True}
    first = text_of(engine, "Tell me a story.", seed=7, **params)
    busy = engine.chat.completions.create(
        messages=user("Count."), ignore_eos=True, max_tokens=300, stream=True
    )
    next(busy)
    assert text_of(engine, "Tell me a story.", seed=7, **params) == first
    assert text_of(engine, "Tell me a story.", seed=8, **params) != first
    busy.close()


def test_a_stream_that_is_dropped_unread_ends_its_request(pocket_bundle: Path):
    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle)
        gc.disable()
        stream = await engine.chat.completions.create(
            messages=user("Tell me a story."), n=4, ignore_eos=True, stream=True
        )
        while not engine.stats().requests:
            await asyncio.sleep(0)
        del stream
        while engine.stats().requests:
            await asyncio.sleep(0)
        # Four choices would fill the window of 1024 tokens.
        assert engine.stats().generated_tokens < 2000
        await engine.close()

    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_request_ends_early_with_what_its_choices_have(pocket_bundle: Path):
    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle)
        stream = await engine.chat.completions.create(
            messages=user("Tell me a story."), n=3, ignore_eos=True, stream=True
        )
        first = await anext(stream)
        assert engine.abort(first.id)
        reasons = [
            choice.finish_reason
            async for chunk in stream
            for choice in chunk.choices
            if choice.finish_reason
        ]
        assert reasons == ["abort"] * 3
        assert not engine.abort(first.id)
        await engine.close()

    asyncio.run(run())


def test_choices_share_the_prompt_and_differ(open_engine: OpenEngine):
    engine = open_engine()
    answer: ChatCompletion = engine.chat.completions.create(
        messages=user("Tell me a story."), n=6, temperature=1.5, seed=3, max_tokens=20
    )
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert len(set(texts)) > 1
    assert engine.stats().prompt_tokens == answer.usage.prompt_tokens
    again = engine.chat.completions.create(
        messages=user("Tell me a story."), n=2, temperature=1.5, seed=3, max_tokens=20
    )
    assert [choice.message.content for choice in again.choices] == texts[:2]


def test_earlier_turns_are_not_computed_again(open_engine: OpenEngine):
    engine = open_engine()
    system = {"role": "system", "content": "You are a friendly assistant who answers questions."}
    turns = [system, *user("What is the capital of France?")]
    first = engine.chat.completions.create(messages=turns)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    turns += [
        {"role": "assistant", "content": first.choices[0].message.content},
        *user("And of Japan?"),
    ]
    second = engine.chat.completions.create(messages=turns)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens
    other = engine.chat.completions.create(messages=[system, *user("What is 3 + 4?")])
    assert other.usage.prompt_tokens_details.cached_tokens >= 16
    with_nothing_kept = open_engine().chat.completions.create(messages=turns)
    assert with_nothing_kept.choices[0].message.content == second.choices[0].message.content


def test_kept_prefixes_make_way(open_engine: OpenEngine):
    engine = open_engine(max_total_tokens=256)
    for index in range(20):
        text_of(engine, f"{index} is a number. " * 6, max_tokens=4)
    stats = engine.stats()
    assert stats.kv_tokens_used <= stats.kv_tokens_total
    assert stats.preemptions == 0
    assert text_of(engine, "What is the capital of France?") == "The capital of France is Paris."


def test_closing_a_stream_frees_its_pages(open_engine: OpenEngine):
    engine = open_engine()
    before = engine.stats().kv_tokens_used
    stream = engine.chat.completions.create(
        messages=user("Tell me a story."), ignore_eos=True, stream=True
    )
    next(stream)
    assert engine.stats().running == 1
    stream.close()
    # Answered after the cancellation, on the same thread.
    engine.check()
    stats = engine.stats()
    assert (stats.running, stats.kv_tokens_used) == (0, before)


def test_a_cancelled_task_frees_its_pages(pocket_bundle: Path):
    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle)
        before = engine.stats().kv_tokens_used
        asking = engine.chat.completions.create(messages=user("Tell me."), ignore_eos=True)
        task = asyncio.create_task(asking)
        while not engine.stats().running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        engine.check()
        assert engine.stats().kv_tokens_used == before
        await engine.close()

    asyncio.run(run())


def test_the_queue_has_an_end(open_engine: OpenEngine):
    engine = open_engine(mode="interactive", max_queue=1)
    streams = [
        engine.chat.completions.create(messages=user("Go on."), ignore_eos=True, stream=True)
        for _ in range(2)
    ]
    with pytest.raises(EngineError) as error:
        text_of(engine, "What is 3 + 4?")
    assert error.value.code == "queue_full"
    for stream in streams:
        stream.close()
    engine.check()
    assert text_of(engine, "What is the capital of France?") == "The capital of France is Paris."


def test_closing_lets_running_requests_end(pocket_bundle: Path):
    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle)
        asking = engine.chat.completions.create(messages=user("What is the capital of France?"))
        task = asyncio.create_task(asking)
        while not engine.stats().prompt_tokens:
            await asyncio.sleep(0)
        await engine.close(drain_s=30)
        assert (await task).choices[0].message.content == "The capital of France is Paris."
        with pytest.raises(EngineError) as error:
            await engine.chat.completions.create(messages=user("Hello"))
        assert error.value.code == "engine_stopped"

    asyncio.run(run())
