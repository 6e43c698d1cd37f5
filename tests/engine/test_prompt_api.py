"""The browsers' Prompt API: sessions, their context, and the errors that the specification names."""

from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page

WINDOW = 128
SETUP = """async () => {
  const library = await import(new URL("client.js", location.href));
  Object.assign(globalThis, library);
  globalThis.Model = createLanguageModel(engine);
  /** The name of what a call throws. */
  globalThis.thrown = async (call) => {
    try {
      await call();
      return null;
    } catch (error) {
      const kind = error instanceof DOMException ? "DOMException" : error.constructor.name;
      return [kind === "QuotaExceededError" ? "DOMException" : kind, error.name];
    }
  };
}"""


@pytest.fixture(scope="module")
def page(tiny: EnginePage) -> EnginePage:
    tiny.run(SETUP)
    return tiny


def test_a_session_remembers_and_counts(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const messages = [{ role: "system", content: "Be brief." }];
          const session = await Model.create({ initialPrompts: messages, samplingMode: "most-predictable" });
          const usage = [session.contextUsage];
          const content = ["On", "e"].map((value) => ({ type: "text", value }));
          await session.append([{ role: "user", content }]);
          await session.append([{ role: "assistant", content: "Two" }, { role: "user", content: "Three" }]);
          usage.push(session.contextUsage);
          const asked = await session.measureContextUsage("Hello");
          const text = await session.prompt("Hello", { signal: AbortSignal.timeout(60_000) });
          usage.push(session.contextUsage);
          messages.push({ role: "user", content: "One" }, { role: "assistant", content: "Two" });
          messages.push({ role: "user", content: "Three\\n\\nHello" });
          const whole = await engine.chat.completions.create({ messages, temperature: 0 });
          const { contextWindow, samplingMode, inputUsage, inputQuota } = session;
          return {
            text, expected: whole.choices[0].message.content, usage, asked, counted: whole.usage,
            contextWindow, samplingMode, aliases: [inputUsage === session.contextUsage, inputQuota],
          };
        }"""
    )
    assert found["text"] == found["expected"] != ""
    counted, usage = found["counted"], found["usage"]
    assert 0 < usage[0] < usage[1]
    assert usage[1] + found["asked"] == counted["prompt_tokens"]
    assert usage[2] == counted["total_tokens"]
    assert (found["contextWindow"], found["aliases"]) == (WINDOW, [True, WINDOW])
    assert found["samplingMode"] == "most-predictable"


def test_a_stream_has_the_answers_parts(page: EnginePage) -> None:
    parts, whole = page.run(
        """async () => {
          const session = await Model.create({ samplingMode: "most-predictable" });
          const other = await session.clone();
          const parts = [];
          const reader = session.promptStreaming("Hello").getReader();
          for (let part; !(part = await reader.read()).done;) parts.push(part.value);
          return [parts, await other.prompt("Hello")];
        }"""
    )
    assert len(parts) > 1 and "".join(parts) == whole


def test_a_clone_goes_its_own_way(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const session = await Model.create({ samplingMode: "most-predictable" });
          await session.append("One");
          const clone = await session.clone();
          const before = clone.contextUsage;
          await clone.append("Two");
          await session.append("Other");
          // Turns wait for each other.
          const fresh = await Model.create();
          await Promise.all(["One", "Other"].map((text) => fresh.append(text)));
          const alike = fresh.contextUsage === session.contextUsage;
          session.destroy();
          const later = await clone.prompt("Three");
          const Again = await Model.create({ samplingMode: "most-predictable" });
          for (const text of ["One", "Two"]) await Again.append(text);
          const same = later === await Again.prompt("Three");
          return [same, alike, before < clone.contextUsage];
        }"""
    )
    assert found == [True, True, True]


LONG = "word " * 12


def test_the_oldest_exchanges_make_room_and_initial_prompts_stay(page: EnginePage) -> None:
    found = page.run(
        """async (long) => {
          const initial = [{ role: "system", content: "Be brief." }];
          const session = await Model.create({ initialPrompts: initial, samplingMode: "most-predictable" });
          const events = [];
          session.addEventListener("contextoverflow", () => events.push("listener"));
          session.oncontextoverflow = () => events.push("handler");
          session.onquotaoverflow = () => events.push("alias");
          for (const name of ["first ", "second ", "third "]) {
            const question = { role: "user", content: name + long };
            await session.append([question, { role: "assistant", content: "Yes." }]);
          }
          const overflows = [...events];
          const left = session.contextUsage;
          // What is kept is what is sent.
          const sent = [];
          const { create } = engine.chat.completions;
          engine.chat.completions.create = (params, options) => {
            sent.push(params.messages);
            return create(params, options);
          };
          try {
            await session.prompt("Go");
          } finally {
            engine.chat.completions.create = create;
          }
          return { overflows, left, sent: sent[0].map(({ content }) => content.slice(0, 6)) };
        }""",
        LONG,
    )
    assert set(found["overflows"]) <= {"listener", "handler", "alias"}
    assert found["left"] < WINDOW
    assert found["sent"][0] == "Be bri"
    assert "first " not in found["sent"] and found["sent"][-1] == "Go"


def test_what_never_fits_is_refused_and_drops_nothing(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const huge = "word ".repeat(400);
          const session = await Model.create();
          await session.append("Keep this.");
          const usage = session.contextUsage;
          const error = await session.prompt(huge).catch((error) => error);
          const initial = await Model.create({ initialPrompts: [{ role: "system", content: huge }] })
            .catch((error) => error);
          return {
            name: error.name, quota: error.quota, requested: error.requested, initial: initial.name,
            isDom: error instanceof DOMException, kept: session.contextUsage === usage,
          };
        }"""
    )
    assert (found["name"], found["initial"]) == ("QuotaExceededError", "QuotaExceededError")
    assert found["quota"] == WINDOW < found["requested"]
    assert found["isDom"] and found["kept"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("session.prompt('a', { responseConstraint: {} })", ["DOMException", "NotSupportedError"]),
        ("session.prompt('a', { omitResponseConstraintInput: true })", ["TypeError", "TypeError"]),
        (
            "session.prompt([{ role: 'assistant', content: 'a', prefix: true }])",
            ["DOMException", "NotSupportedError"],
        ),
        (
            "session.prompt([{ role: 'user', content: 'a', prefix: true }])",
            ["DOMException", "SyntaxError"],
        ),
        ("session.prompt([{ role: 'tool', content: 'a' }])", ["TypeError", "TypeError"]),
        (
            "session.prompt([{ role: 'user', content: [{ type: 'image', value: 1 }] }])",
            ["DOMException", "NotSupportedError"],
        ),
        (
            "session.prompt([{ role: 'user', content: [{ type: 'text', value: 1 }] }])",
            ["TypeError", "TypeError"],
        ),
        (
            "session.append([{ role: 'user', content: 'a' }, { role: 'system', content: 'b' }])",
            ["TypeError", "TypeError"],
        ),
        ("Model.create({ samplingMode: 'wild' })", ["TypeError", "TypeError"]),
        (
            "Model.create({ expectedInputs: [{ type: 'audio' }] })",
            ["DOMException", "NotSupportedError"],
        ),
        (
            "Model.create({ expectedInputs: [{ type: 'text', languages: ['no such tag'] }] })",
            ["RangeError", "RangeError"],
        ),
        ("Model.create({ tools: [{ name: 'a' }] })", ["DOMException", "NotSupportedError"]),
        ("Model.create({ signal: AbortSignal.abort() })", ["DOMException", "AbortError"]),
        ("(session.destroy(), session.prompt('a'))", ["DOMException", "AbortError"]),
        ("(session.destroy(), session.clone())", ["DOMException", "AbortError"]),
    ],
)
def test_errors_are_those_of_the_specification(
    page: EnginePage, call: str, error: list[str]
) -> None:
    script = f"async () => {{ const session = await Model.create(); return thrown(() => {call}); }}"
    assert page.run(script) == error


def test_aborts_take_a_prompt_out_and_leave_the_session(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const session = await Model.create({ samplingMode: "most-predictable" });
          const stopped = new AbortController();
          const queued = new AbortController();
          const reader = session.promptStreaming("Hello", { signal: stopped.signal }).getReader();
          const waiting = session.prompt("Never", { signal: queued.signal }).catch(({ name }) => name);
          await reader.read();
          queued.abort();
          const first = await waiting;
          stopped.abort(new RangeError("mine"));
          let end;
          try {
            while (!(await reader.read()).done);
          } catch ({ name }) {
            end = name;
          }
          const usage = session.contextUsage;
          const same = await session.prompt("Hello") === await (await Model.create(
            { samplingMode: "most-predictable" })).prompt("Hello");
          const open = session.prompt("Hello").catch(({ name }) => name);
          session.destroy();
          return [first, end, usage, same, await open];
        }"""
    )
    assert found == ["AbortError", "RangeError", 0, True, "AbortError"]


def test_the_signal_of_the_creation_destroys_the_session(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const controller = new AbortController();
          const session = await Model.create({ signal: controller.signal });
          controller.abort(new RangeError("mine"));
          return thrown(() => session.prompt("a"));
        }"""
    )
    assert found == ["RangeError", "RangeError"]


def test_a_native_one_is_never_replaced(page: EnginePage) -> None:
    found = page.run(
        """async () => {
          const native = globalThis.LanguageModel;
          delete globalThis.LanguageModel;
          try {
            const installed = installLanguageModel(engine);
            const own = globalThis.LanguageModel;
            const session = await LanguageModel.create();
            const isOne = session instanceof LanguageModel && session instanceof EventTarget;
            return [installed, isOne, installLanguageModel(engine), globalThis.LanguageModel === own];
          } finally {
            delete globalThis.LanguageModel;
            if (native) globalThis.LanguageModel = native;
          }
        }"""
    )
    assert found == [True, True, False, True]


LIFE = """async () => {
  const OPTIONS = { workerURL: "worker.js", model: "bundles/tiny-q0f32/" };
  globalThis.Model = createLanguageModel(OPTIONS);
  const states = [await Model.availability(), await Model.availability({ tools: [{}] })];
  const loaded = [];
  const monitor = (target) => {
    target.ondownloadprogress = ({ loaded: part, total }) => loaded.push([part, total]);
  };
  const first = Model.create({ monitor });
  states.push(await Model.availability());
  const late = Model.create();
  const gone = new AbortController();
  const left = Model.create({ signal: gone.signal }).catch(({ name }) => name);
  gone.abort();
  states.push(await left);
  const session = await first;
  await late;
  states.push(await Model.availability());
  const text = await session.prompt("Hello");
  const Later = createLanguageModel(OPTIONS);
  states.push(await Later.availability());
  const both = ["bundles/tiny-q0f32/", "bundles/absent/"];
  for (const more of [{ memoryBudget: 1 }, { model: both }]) {
    states.push(await createLanguageModel({ ...OPTIONS, ...more }).availability());
  }
  return { states, loaded, text };
}"""


def test_the_engine_starts_with_the_first_session(
    browser: Browser, site_url: str, bundles: Any
) -> None:
    with engine_page(browser, site_url) as page:
        page.run(SETUP)
        found = page.run(LIFE)
    assert found["states"] == [
        "downloadable",
        "unavailable",
        "downloading",
        "AbortError",
        "available",
        "available",
        "unavailable",
        "unavailable",
    ]
    parts = [part for part, total in found["loaded"]]
    assert parts[0] == 0 and parts[-1] == 1 and parts == sorted(set(parts))
    assert {total for part, total in found["loaded"]} == {1}
    assert found["text"]


def test_an_abort_at_the_first_progress_starts_nothing(
    browser: Browser, site_url: str, bundles: Any
) -> None:
    with engine_page(browser, site_url) as page:
        page.run(SETUP)
        found = page.run(
            """async () => {
              const started = [];
              globalThis.Worker = class extends Worker {
                constructor(...given) {
                  super(...given);
                  started.push(given);
                }
              };
              const options = { workerURL: "worker.js", shared: false, model: "bundles/tiny-q0f32/" };
              const ends = [];
              for (const watch of [
                (monitor, end) => monitor.addEventListener("downloadprogress", end),
                (monitor, end) => { monitor.ondownloadprogress = end; },
              ]) {
                const controller = new AbortController();
                const monitor = (target) => watch(target, () => controller.abort(new RangeError("mine")));
                const Model = createLanguageModel(options);
                ends.push(await thrown(() => Model.create({ signal: controller.signal, monitor })));
              }
              return [ends, started];
            }"""
        )
    assert found == [[["RangeError", "RangeError"]] * 2, []]


def test_a_handler_of_progress_that_throws_is_reported_and_no_more(
    browser: Browser, site_url: str, bundles: Any
) -> None:
    with engine_page(browser, site_url) as page:
        page.run(SETUP)
        found = page.run(
            """async () => {
              const reported = [];
              addEventListener("error", (event) => {
                event.preventDefault();
                reported.push(event.message);
              });
              const monitor = (target) => {
                target.ondownloadprogress = () => { throw new TypeError("mine"); };
              };
              const own = createLanguageModel(engine);
              await engine.load("bundles/tiny-q0f32/");
              const session = await own.create({ monitor });
              return [session instanceof own, reported];
            }"""
        )
    assert found == [True, ["Uncaught TypeError: mine"] * 2]


def test_a_browser_that_runs_nothing_has_no_model(
    browser: Browser, site_url: str, bundles: Any
) -> None:
    without = "Object.defineProperty(WorkerNavigator.prototype, 'gpu', { get: () => undefined });"
    with engine_page(browser, site_url) as page:
        page.run(SETUP)
        states = page.run(
            """async (without) => {
              const blob = (source) =>
                URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
              const script = new URL("worker.js", location.href);
              const workerURL = blob(`import "${blob(without)}"; import "${script}";`);
              const Model = createLanguageModel({ workerURL, shared: false, model: "bundles/tiny-q0f32/" });
              return [await Model.availability(), await thrown(() => Model.create())];
            }""",
            without,
        )
    assert states == ["unavailable", ["DOMException", "NotSupportedError"]]
