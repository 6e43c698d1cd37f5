"""Several models in one engine: requests name them, and they share a budget of memory."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page

GREEDY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count to ten."}],
    "temperature": 0,
    "max_tokens": 4,
    "ignore_eos": True,
}
SETUP = """async () => {
  const { createEngine } = await import(new URL("client.js", location.href));
  globalThis.create = async (options) => {
    globalThis.engine?.dispose();
    const workerURL = "worker.js";
    globalThis.events = [];
    globalThis.engine = await createEngine({ workerURL, baseURL: ".", ...options });
    engine.onEvent((event) => events.push(event));
    return engine.models.map(({ id }) => id);
  };
  globalThis.ask = async (model, params) => {
    const answer = await engine.chat.completions.create({ ...params, model });
    return [answer.model, answer.choices[0].message.content];
  };
  globalThis.loaded = () => Object.fromEntries(
    engine.models.map(({ id, memoryBytes }) => [id, memoryBytes > 0]),
  );
}"""
A, B = "tiny-q0f32", "tiny-two"


@pytest.fixture(scope="module")
def page(browser: Browser, site_url: str, bundles: Path) -> Iterator[EnginePage]:
    """A page of a site with two models, alike but for their names."""
    folder = bundles / B
    shutil.copytree(bundles / A, folder)
    lock = json.loads((folder / "mlc-lock.json").read_text())
    lock["model"]["id"] = B
    (folder / "mlc-lock.json").write_text(json.dumps(lock))
    with engine_page(browser, site_url) as page:
        page.run(SETUP)
        yield page
    shutil.rmtree(folder)


def create(page: EnginePage, **options: Any) -> list[str]:
    ids: list[str] = page.run("(options) => create(options)", options)
    return ids


def ask(page: EnginePage, model: str | None) -> list[str]:
    answer: list[str] = page.run("([model, p]) => ask(model, p)", [model, GREEDY])
    return answer


def test_requests_name_their_model(page: EnginePage) -> None:
    assert create(page, model=[A, B]) == [A, B]
    (first, text), (second, same) = ask(page, A), ask(page, B)
    assert (first, second) == (A, B) and text == same
    unknown = page.complete_failure(**GREEDY, model="gpt-9")
    assert (unknown["code"], unknown["param"]) == ("invalid_request", "model")
    assert unknown["message"] == f'"gpt-9" is not loaded, {A}, {B} are.'
    missing = page.complete_failure(**GREEDY)
    assert missing["code"] == "invalid_request" and f"{A}, {B}" in missing["message"]
    listed = page.run(
        """async () => {
          const response = await engine.fetch("https://engine.local/v1/models");
          return (await response.json()).data.map(({ id }) => id);
        }"""
    )
    assert listed == [A, B]
    both = page.run("() => engine.debug.memory()")["deviceBytes"]
    page.run("(id) => engine.unload(id)", A)
    assert ask(page, None) == [B, text]
    assert page.run("() => engine.debug.memory()")["deviceBytes"] == both // 2
    gone = page.run("(id) => failure(() => engine.unload(id))", A)
    assert (gone["code"], gone["param"]) == ("invalid_request", "model")


def test_a_model_in_the_place_of_another(page: EnginePage) -> None:
    create(page, model=A)
    one = page.run("() => engine.debug.memory()")["deviceBytes"]
    page.run("() => engine.load('bundles/tiny-two/', { replace: true })")
    assert page.run("() => loaded()") == {B: True}
    assert page.run("() => engine.debug.memory()")["deviceBytes"] == one
    # What is loaded already stays, with other settings.
    page.run("() => { events.length = 0; }")
    page.run("() => engine.load('bundles/tiny-two/', { replace: true, deterministic: true })")
    assert {event["kind"] for event in page.events()} == {"backend"} and ask(page, None)[0] == B


def test_the_model_that_was_not_used_for_the_longest_time_makes_room(page: EnginePage) -> None:
    create(page, model=A)
    _, text = ask(page, A)
    bytes_of_one = page.run("() => engine.models[0].memoryBytes")
    create(page, model=A, memoryBudget=2.5 * bytes_of_one)
    page.run("() => engine.load('bundles/tiny-two/')")
    assert page.run("() => loaded()") == {A: True, B: True}

    create(page, model=A, memoryBudget=1.6 * bytes_of_one)
    page.run("() => engine.load('bundles/tiny-two/')")
    assert page.run("() => loaded()") == {A: False, B: True}
    told = [event for event in page.events() if event["kind"] == "model"]
    assert told == [{"kind": "model", "state": "unloaded", "id": A, "memoryBytes": 0}]
    # A request brings it back, and the other one goes.
    assert ask(page, A) == [A, text]
    assert page.run("() => loaded()") == {A: True, B: False}
    assert page.run("() => engine.debug.memory()")["deviceBytes"] < 1.6 * bytes_of_one


def test_a_model_that_answers_keeps_its_place(page: EnginePage) -> None:
    create(page, model=A)
    bytes_of_one = page.run("() => engine.models[0].memoryBytes")
    create(page, model=A, memoryBudget=1.2 * bytes_of_one)
    order, ended = page.run(
        """async (params) => {
          const order = [];
          const answer = stream(params).then((ended) => { order.push("answer"); return ended; });
          const load = engine.load("bundles/tiny-two/").then(() => order.push("load"));
          const [{ ended, finish }] = await Promise.all([answer, load]);
          return [order, [ended, ...finish]];
        }""",
        {**GREEDY, "model": A, "max_tokens": 90},
    )
    assert order == ["answer", "load"] and ended == ["done", "length"]
    assert page.run("() => loaded()") == {A: False, B: True}


def test_a_model_over_the_budget_is_refused_before_it_is_downloaded(
    page: EnginePage, browser: Browser, site_url: str
) -> None:
    with engine_page(browser, site_url) as fresh:
        fresh.run(SETUP)
        asked: list[str] = []
        fresh.page.context.on("request", lambda request: asked.append(request.url))
        options = {"model": A, "memoryBudget": 1000}
        failed = fresh.run("(options) => failure(() => create(options))", options)
        assert failed["code"] == "out_of_memory" and "budget" in failed["message"]
        assert not [url for url in asked if "params_shard" in url or ".wasm" in url]
        fits = fresh.run(
            """async () => {
              const workerUrl = new URL("worker.js", location.href);
              const small = new EngineClient({ workerUrl, memoryBudget: 1000 });
              const { fits, problems } = await small.check("bundles/tiny-q0f32/");
              small.dispose();
              return [fits, problems.map(({ code }) => code)];
            }"""
        )
        assert fits == [False, ["out_of_memory"]]
