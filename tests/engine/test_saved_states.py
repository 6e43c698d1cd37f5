"""States of prefixes: computed once, stored, and read on the next visit, in a browser."""

import json
from typing import Any

import numpy as np
import pytest

from tests.browser import EnginePage

# About 40 tokens, in a context of 128 with chunks of 32.
SYSTEM = [{"role": "system", "content": "You are the voice of a museum of clocks. " * 2}]
HELLO = [{"role": "system", "content": "Be brief."}]
ASKED: dict[str, Any] = {
    "messages": [*SYSTEM, {"role": "user", "content": "When do you open?"}],
    "temperature": 1.2,
    "seed": 5,
    "max_tokens": 6,
    "ignore_eos": True,
    "logprobs": True,
    "deterministic": True,
}
# What is in the state's cache, with a byte of the first one changed whose address fits.
DAMAGE = """async (pattern) => {
  const cache = await caches.open("mlc-edge-states-v1");
  const keys = await cache.keys();
  const key = keys.find(({ url }) => new RegExp(pattern).test(url));
  const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
  bytes[bytes.length >> 1] ^= 1;
  await cache.put(key, new Response(bytes));
}"""


@pytest.fixture
def page(fresh: EnginePage) -> EnginePage:
    """A page that has loaded a model and saved the state `museum`, and is open the next day."""
    fresh.load("tiny-q0f32")
    assert save(fresh, "museum", SYSTEM)["tokens"] > 32
    return tomorrow(fresh)


def tomorrow(page: EnginePage) -> EnginePage:
    page.page.reload()
    page.page.wait_for_function("globalThis.ready === true")
    page.load("tiny-q0f32")
    return page


def save(page: EnginePage, name: Any, messages: Any) -> dict[str, Any]:
    saved: dict[str, Any] = page.run("([n, m]) => engine.saveState(n, m)", [name, messages])
    return saved


def load(page: EnginePage, name: str) -> dict[str, Any] | None:
    loaded: dict[str, Any] | None = page.run("(name) => engine.loadState(name)", name)
    return loaded


def listed(page: EnginePage) -> list[dict[str, Any]]:
    states: list[dict[str, Any]] = page.run("async () => (await engine.storage.list()).states")
    return states


def cached(answer: dict[str, Any]) -> int:
    count: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def bits(answer: dict[str, Any]) -> str:
    """Tokens and log probabilities; JSON keeps every bit of a number."""
    return json.dumps(answer["choices"][0]["logprobs"])


def computed(page: EnginePage) -> str:
    """The bits of a fresh computation."""
    page.run("() => engine.debug.logits([3])")
    answer = page.complete(**ASKED)
    assert cached(answer) == 0
    page.run("() => engine.debug.logits([3])")
    return bits(answer)


def test_a_state_gives_the_bits_of_a_computation_on_the_next_day(page: EnginePage) -> None:
    alone = computed(page)
    loaded = load(page, "museum")
    assert loaded == listed(page)[0] and loaded["name"] == "museum"
    answer = page.complete(**ASKED)
    assert (bits(answer), cached(answer)) == (alone, 32)
    # All of its tokens, where the grid doesn't matter.
    page.run("() => engine.debug.logits([3])")
    load(page, "museum")
    assert cached(page.complete(**{**ASKED, "deterministic": False})) == loaded["tokens"]
    # A device that is lost takes what was read with it.
    page.run("() => engine.debug.loseDevice()")
    assert load(page, "museum") == loaded
    answer = page.complete(**ASKED)
    assert (bits(answer), cached(answer)) == (alone, 32)


def test_a_state_has_nothing_of_other_texts(page: EnginePage) -> None:
    # Other texts fill every page.
    full = {"messages": [{"role": "user", "content": "clock " * 30}], "max_tokens": None}
    assert page.complete(**{**ASKED, **full})["usage"]["total_tokens"] == 128
    page.run("() => engine.debug.logits([3])")
    tokens = save(page, "hello", HELLO)["tokens"]
    layer = page.run(
        """async () => {
          const cache = await caches.open("mlc-edge-states-v1");
          const key = (await cache.keys()).find(({ url }) => url.endsWith("/=hello/0"));
          return [...new Float32Array(await (await cache.match(key)).arrayBuffer())];
        }"""
    )
    # [page, keys or values, two heads, 16 tokens, 32 features]
    last = np.array(layer).reshape(-1, 2, 2, 16, 32)[-1]
    filled = tokens % 16
    assert 0 < filled < 15
    assert np.all(last[:, :, filled:] == 0)
    assert np.all(np.any(last[:, :, :filled] != 0, axis=-1))


def test_saving_reads_what_is_stored(page: EnginePage) -> None:
    before = listed(page)
    assert save(page, "museum", SYSTEM) == before[0]
    assert cached(page.complete(**ASKED)) == 32
    # Other messages take the old ones' place.
    shorter = save(page, "museum", HELLO)
    assert shorter["tokens"] < before[0]["tokens"]
    assert listed(page) == [shorter]


@pytest.mark.parametrize("pattern", ["/=museum/1$", "/=museum$"])
def test_a_damaged_state_is_computed_again(page: EnginePage, pattern: str) -> None:
    alone = computed(page)
    page.run(DAMAGE, pattern)
    assert load(page, "museum") is None
    damaged = [event for event in page.events() if event.get("state") == "damaged"]
    assert len(damaged) == (1 if pattern == "/=museum/1$" else 0)
    answer = page.complete(**ASKED)
    assert (bits(answer), cached(answer)) == (alone, 0)
    saved = save(page, "museum", SYSTEM)
    page.run("() => engine.debug.logits([3])")
    assert load(page, "museum") == saved
    answer = page.complete(**ASKED)
    assert (bits(answer), cached(answer)) == (alone, 32)


def test_states_are_listed_and_deleted_also_with_their_bundle(page: EnginePage) -> None:
    [museum] = listed(page)
    hello = save(page, "say/hello ü", HELLO)
    assert listed(page) == [museum, hello]
    # Pages of 16 tokens, keys and values of two heads of 32 float32, in two layers.
    assert hello["bytes"] % (16 * 2) == 0 and hello["bytes"] < museum["bytes"]
    freed = page.run("(state) => engine.storage.deleteState(state)", museum)
    assert freed == {"freedBytes": museum["bytes"], "keptFiles": 0}
    assert load(page, "museum") is None
    failed = page.run("(s) => failure(() => engine.storage.deleteState(s))", museum)
    assert failed["code"] == "invalid_request"
    freed = page.run("() => engine.storage.delete('bundles/tiny-q0f32/')")
    assert freed["freedBytes"] > hello["bytes"]
    assert listed(page) == []
    assert (
        page.run("async () => (await (await caches.open('mlc-edge-states-v1')).keys()).length") == 0
    )


@pytest.mark.parametrize(
    ("name", "messages", "code"),
    [
        ("", HELLO, "invalid_request"),
        (7, HELLO, "invalid_request"),
        ("x", [], "invalid_request"),
        ("x", [{"role": "system", "content": "clock " * 200}], "context_length_exceeded"),
    ],
)
def test_bad_states_are_refused(tiny: EnginePage, name: Any, messages: Any, code: str) -> None:
    failed = tiny.run("([n, m]) => failure(() => engine.saveState(n, m))", [name, messages])
    assert failed["code"] == code
    assert listed(tiny) == []
