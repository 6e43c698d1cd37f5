"""Tabs of one origin share one engine, in both ways; whichever of them ends, no answer is lost."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error

from tests.browser import EnginePage

SHARED = "globalThis.shared = true;"
WAYS = {"shared worker": SHARED, "elected tab": f"{SHARED} delete globalThis.SharedWorker;"}
LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count to ten."}],
    "temperature": 1,
    "max_tokens": 90,
    "ignore_eos": True,
}
SEEDED = {**LONG, "seed": 3}
# Begins an answer as `answer`, and resolves once some of it has come.
BEGIN = """async (params) => {
  globalThis.begun = new Promise((resolve) => { globalThis.onBegun = resolve; });
  const create = engine.chat.completions.create;
  const watched = async (...given) => {
    const chunks = await create(...given);
    return (async function* () {
      let count = 0;
      for await (const chunk of chunks) { if ((count += 1) === 8) onBegun(); yield chunk; }
    })();
  };
  engine.chat.completions.create = watched;
  globalThis.answer = stream(params);
  engine.chat.completions.create = create;
  await Promise.race([begun, answer]);
}"""


in_a_shared_worker = pytest.mark.parametrize("context", ["shared worker"], indirect=True)
in_an_elected_tab = pytest.mark.parametrize("context", ["elected tab"], indirect=True)


@pytest.fixture(params=WAYS)
def context(
    browser: Browser, bundles: Path, request: pytest.FixtureRequest
) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.add_init_script(WAYS[request.param])
    yield context
    context.close()


OpenTab = Callable[[], EnginePage]


@pytest.fixture
def open_tab(context: BrowserContext, site_url: str) -> OpenTab:
    return lambda: EnginePage(context.new_page(), site_url)


def test_a_second_tab_takes_the_model_of_the_first(
    open_tab: OpenTab, context: BrowserContext
) -> None:
    first = open_tab()
    loaded = first.load("tiny-q0f32")
    memory = first.run("() => engine.debug.memory()")
    second = open_tab()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    assert second.load("tiny-q0f32") == loaded
    assert second.run("() => engine.debug.memory()") == memory and memory["deviceBytes"] > 0
    assert not [url for url in asked if "params_shard" in url or ".wasm" in url]
    assert {event["kind"] for event in second.events()} == {"backend"}
    assert second.stream(SEEDED)["text"] == first.stream(SEEDED)["text"]
    # One tab's end, or unloading, takes nothing from another.
    first.run("() => engine.unload()")
    assert first.complete_failure(**SEEDED)["code"] == "model_not_loaded"
    assert second.complete(**{**SEEDED, "max_tokens": 2})["usage"]["completion_tokens"] == 2
    second.run("() => engine.unload()")
    assert second.run("() => engine.debug.memory()")["deviceBytes"] == 0


@in_a_shared_worker
def test_an_answer_is_whole_though_the_first_tab_is_closed(open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    for tab in (first, second):
        tab.load("tiny-q0f32")
    whole = second.stream(SEEDED)
    first.run(BEGIN, LONG)
    # Waits for the first tab's answer, which ends with its tab.
    second.page.evaluate("(params) => { globalThis.waiting = stream(params); }", SEEDED)
    first.page.close()
    assert second.run("() => waiting")["text"] == whole["text"]
    assert second.run("() => engine.models.map(({ id }) => id)") == ["tiny-q0f32"]


def test_an_answer_goes_on_in_the_middle_when_the_first_tab_is_closed(open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    for tab in (first, second):
        tab.load("tiny-q0f32")
    whole = second.stream(SEEDED)
    second.run(BEGIN, SEEDED)
    first.page.close()
    ended = second.run("() => answer")
    assert (ended["ended"], ended["text"]) == ("done", whole["text"])
    assert len({chunk["id"] for chunk in ended["chunks"]}) == 1
    assert len(ended["chunks"]) == len(whole["chunks"])


@in_a_shared_worker
def test_a_tab_that_crashes_takes_no_answer_with_it(open_tab: OpenTab) -> None:
    first = open_tab()
    first.load("tiny-q0f32")
    second = open_tab()
    second.load("tiny-q0f32")
    # Without a seed, too: one is chosen, and used again.
    second.run(BEGIN, LONG)
    with contextlib.suppress(Error):
        first.page.goto("chrome://crash", timeout=5_000)
    ended = second.run("() => answer")
    assert (ended["ended"], ended["finish"]) == ("done", ["length"])
    assert second.complete(**{**SEEDED, "max_tokens": 2})["usage"]["completion_tokens"] == 2


def test_what_a_closed_tab_asked_for_ends_and_its_model_is_freed(open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    assert first.run("() => engine.debug.memory()")["deviceBytes"] == 0
    second.load("tiny-q0f32")
    assert first.run("() => engine.debug.memory()")["deviceBytes"] > 0
    # Would be written for many times as long as the tab may take to go.
    much = {**LONG, "n": 16}
    second.run(BEGIN, much)
    second.run("(params) => { for (let i = 0; i < 40; i += 1) void stream(params); }", much)
    second.page.close()
    first.run(
        """async () => {
          const end = performance.now() + 60_000;
          while ((await engine.debug.memory()).deviceBytes > 0) {
            if (performance.now() > end) throw new Error("the answer is still written");
          }
        }"""
    )


@in_a_shared_worker
def test_tabs_take_turns(open_tab: OpenTab) -> None:
    greedy, modest = open_tab(), open_tab()
    for tab in (greedy, modest):
        tab.load("tiny-q0f32")
    now = "performance.timeOrigin + performance.now()"
    # Asks as soon as the other one does, with no driver in between.
    modest.run(
        f"""(params) => {{
          globalThis.times = new Promise((resolve) => {{
            new BroadcastChannel("turns").onmessage = async () => {{
              const asked = {now};
              await stream(params);
              resolve([asked, {now}]);
            }};
          }});
        }}""",
        {**SEEDED, "max_tokens": 4},
    )
    ends = greedy.run(
        f"""async (params) => {{
          const ask = () => stream(params).then(() => {now});
          const answers = Array.from({{ length: 8 }}, ask);
          new BroadcastChannel("turns").postMessage("ask");
          return Promise.all(answers);
        }}""",
        {**SEEDED, "max_tokens": 40},
    )
    asked, answered = modest.run("() => times")
    # It waits for the answer that is written, and perhaps for one that began before it asked.
    assert ends == sorted(ends) and answered < ends[-1]
    assert len([end for end in ends if asked < end < answered]) <= 2


@in_an_elected_tab
def test_a_client_can_not_fill_the_queue(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.load("tiny-q0f32")
    refused, answered = tab.run(
        """async (params) => {
          const url = "https://engine.local/v1/chat/completions";
          const ask = (more, options) => {
            const body = JSON.stringify({ ...params, ...more });
            return engine.fetch(url, { method: "POST", body, ...options });
          };
          // Written until all have asked, and then left.
          const controller = new AbortController();
          const first = ask({ n: 16 }, { signal: controller.signal }).catch(({ name }) => name);
          const others = Array.from({ length: 65 }, () => ask({ max_tokens: 1 }));
          await Promise.race(others);
          controller.abort();
          if ((await first) !== "AbortError") throw new Error("the first one was answered");
          const responses = await Promise.all(others);
          const bodies = await Promise.all(responses.map((response) => response.json()));
          const codes = bodies.map(({ error }) => error?.code);
          const statuses = responses.map(({ status }) => status);
          return [
            codes.filter((code, index) => code === "queue_full" && statuses[index] === 429).length,
            statuses.filter((status) => status === 200).length,
          ];
        }""",
        SEEDED,
    )
    assert (refused, answered) == (2, 63)


@in_a_shared_worker
def test_events_and_aborts_are_each_tabs_own(open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    first.load("tiny-q0f32")
    assert first.events() and second.events() == []
    second.load("tiny-q0f32")
    whole = first.stream(SEEDED)
    first.run(BEGIN, SEEDED)
    aborted = second.stream(SEEDED, abortAfter=1)
    assert aborted["ended"]["name"] == "AbortError"
    assert first.run("() => answer")["text"] == whole["text"]
    second.run("() => engine.debug.loseDevice()")
    for tab in (first, second):
        tab.page.wait_for_function("() => events.some(({ state }) => state === 'recovered')")
    second.run("() => engine.dispose()")
    assert first.stream(SEEDED)["text"] == whole["text"]


@in_an_elected_tab
def test_a_page_that_is_put_aside_comes_back(open_tab: OpenTab) -> None:
    """As browsers do that keep pages for the back button, whose workers stand still meanwhile."""
    first, second = open_tab(), open_tab()
    for tab in (first, second):
        tab.load("tiny-q0f32")
    whole = first.stream(SEEDED)
    first.run(BEGIN, SEEDED)
    move = "(name) => { dispatchEvent(new PageTransitionEvent(name, { persisted: true })); }"
    first.run(move, "pagehide")
    assert second.stream(SEEDED)["text"] == whole["text"]
    first.run(move, "pageshow")
    assert first.run("() => answer")["text"] == whole["text"]
    assert first.run("() => engine.models.map(({ id }) => id)") == ["tiny-q0f32"]
