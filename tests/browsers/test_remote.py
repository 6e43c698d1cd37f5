"""A remote server as the last backend, in browsers that can't run a model: asked only with consent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.browsers import openai_server as server
from tests.browsers.browser import RealBrowser
from tests.browsers.forward import Forward
from tests.browsers.openai_server import MODEL, WORDS, OpenAiServer, Reply
from tests.daemon.daemons import Daemon
from tests.web.serving import Site, serving

LOCAL = ["webgpu-f16", "webgpu-f32", "wasm"]
SCRIPT = """
var bundle = new URL("bundles/fake/", location.href);
var asked = [];
var engine = null;
var backend = { remote: REMOTE, consent: true };
var options = (more, local = ["webgpu-f16", "webgpu-f32", "wasm"]) => ({
  workerURL: "worker.js", model: bundle, backends: [...local, { ...backend, ...more }],
});
var consents = (answer) => (request) => { asked.push(request); return answer; };
var question = [{ role: "user", content: "Hi" }];
var start = async (more) => {
  engine?.dispose();
  engine = await createEngine(options(more, []));
};
/** Text and end of a stream. */
var streamed = async (engine, { signal } = {}) => {
  let text = "";
  try {
    const params = { messages: question, stream: true };
    for await (const chunk of await engine.chat.completions.create(params, { signal })) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
    return { text, end: null };
  } catch ({ name, code, message, param }) {
    return { text, end: { name, code: code ?? null, message, param: param ?? null } };
  }
};"""
# In the page itself: drivers run scripts beside it.
SETUP = """(source) => {
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
}"""
OPEN = "(more) => start(more)"


def set_up(browser: RealBrowser, url: str, remote: str) -> None:
    browser.open(url)
    browser.wait_for("() => typeof EngineClient === 'function'")
    browser.run(SETUP, SCRIPT.replace("REMOTE", json.dumps(remote)))


@pytest.fixture
def far() -> OpenAiServer:
    return OpenAiServer()


@pytest.fixture
def far_site(far: OpenAiServer) -> Iterator[Site]:
    with serving(far.app()) as site:
        yield site


@pytest.fixture
def page(browser: RealBrowser, engine_site: Site, far_site: Site) -> RealBrowser:
    set_up(browser, engine_site.url, f"{far_site.url}v1")
    return browser


def test_messages_go_to_the_server_that_was_agreed_to(
    page: RealBrowser, far: OpenAiServer, far_site: Site
):
    backend, models, consents, answers = page.run(
        """async () => {
          const consent = consents(Promise.resolve(true));
          const engine = await createEngine({ ...options({ consent, apiKey: "sk-1" }) });
          const whole = await engine.chat.completions.create({ messages: question, model: "mine" });
          const { text, end } = await streamed(engine);
          const url = "https://engine.local/v1/";
          const body = JSON.stringify({ messages: question });
          const post = await engine.fetch(`${url}chat/completions`, { method: "POST", body });
          const models = await (await engine.fetch(`${url}models`)).json();
          const fetched = (await post.json()).choices[0].message.content;
          const answers = [whole.choices[0].message.content, text, end, fetched, models.data[0].id];
          const { backend, model, loaded: { contextWindowSize } } = engine;
          engine.dispose();
          return [backend, [model, contextWindowSize, engine.model, engine.backend], asked, answers];
        }"""
    )
    origin = far_site.url.rstrip("/")
    assert (backend["kind"], backend["origin"], backend["target"]) == ("remote", origin, None)
    assert [left["kind"] for left in backend["tried"]] == LOCAL
    assert {left["code"] for left in backend["tried"]} == {
        "adapter_unsuitable",
        "webgpu_unavailable",
    }
    assert "no wasm target" in backend["tried"][2]["reason"]
    assert models == [MODEL, 64, None, None]
    (consent,) = consents
    assert (consent["origin"], consent["url"]) == (origin, f"{origin}/v1")
    assert consent["tried"] == backend["tried"]
    text = "".join(WORDS)
    assert answers == [text, text, None, text, MODEL]
    assert {asked["model"] for asked in far.asked} == {MODEL}
    assert set(far.keys) == {"Bearer sk-1"}


def test_without_consent_nothing_is_sent(page: RealBrowser, far: OpenAiServer):
    failures = page.run(
        """async () => {
          const failures = [];
          for (const answer of [false, "yes", undefined, Promise.resolve(false)]) {
            const consent = () => answer;
            failures.push(await failure(() => createEngine(options({ consent }))));
          }
          return failures;
        }"""
    )
    for failed in failures:
        assert failed["code"] == "consent_declined"
        for reason in ("no webgpu-f16 target", "no wasm target", "declined"):
            assert reason in failed["message"]
    assert far.keys == []


def test_backends_that_are_none_are_refused(page: RealBrowser, far: OpenAiServer):
    failures = page.run(
        """async () => {
          const remote = "/v1";
          const lists = [
            [], ["webgpu"], ["wasm", "wasm"], [null],
            ...[
              { remote },
              { remote, consent: "yes" },
              { remote: "file:///v1", consent: true },
              { remote, consent: true, key: "sk-1" },
              { remote, consent: true, apiKey: "line\\nend" },
              { remote, consent: true, silenceMs: 0 },
            ].map((backend) => [backend]),
          ];
          const engine = new EngineClient({ workerUrl: "worker.js" });
          const failures = [];
          for (const backends of lists) {
            failures.push(await failure(() => createEngine({ ...options(), backends })));
            failures.push(await failure(() => engine.load(bundle, { backends })));
          }
          engine.dispose();
          return failures;
        }"""
    )
    assert [failed["code"] for failed in failures] == ["invalid_request"] * 20
    assert all("backends" in failed["message"] for failed in failures)


def test_an_abort_ends_the_question_for_consent(page: RealBrowser, far: OpenAiServer):
    failed = page.run(
        """() => {
          const controller = new AbortController();
          const consent = () => { controller.abort(); return new Promise(() => {}); };
          const { signal } = controller;
          return failure(() => createEngine({ ...options({ consent }), signal }));
        }"""
    )
    assert failed["name"] == "AbortError" and far.keys == []


def test_an_engine_that_ends_while_it_loads_asks_no_server(page: RealBrowser, far: OpenAiServer):
    found = page.run(
        """async () => {
          const engine = new EngineClient({ workerUrl: "worker.js" });
          const seen = [];
          engine.onEvent(({ kind, state }) => kind === "backend" && seen.push(state));
          const consent = consents(true);
          const remote = { ...backend, consent };
          const loading = failure(() => engine.load(bundle, { backends: ["wasm", remote] }));
          engine.dispose();
          const later = await failure(() => engine.load(bundle, { backends: [remote] }));
          const asking = new EngineClient({ workerUrl: "worker.js" });
          const open = () => { asking.dispose(); return new Promise(() => {}); };
          const unanswered = await failure(() =>
            asking.load(bundle, { backends: [{ ...backend, consent: open }] }));
          return [[await loading, later, unanswered].map(({ code }) => code), asked, seen];
        }"""
    )
    assert found == [["model_not_loaded"] * 3, [], []]
    assert far.keys == []


def test_a_server_takes_the_place_of_an_engine_that_does_not_start(
    page: RealBrowser, far: OpenAiServer
):
    found = page.run(
        """async () => {
          const engine = new EngineClient({ workerUrl: "absent.js" });
          await engine.load(bundle, { backends: ["wasm", backend], replace: true });
          const { text } = await streamed(engine);
          engine.dispose();
          return text;
        }"""
    )
    assert found == "".join(WORDS)


def test_servers_keep_no_states(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {})
    assert page.run("() => engine.loadState('shop')") is None
    failed = page.run("() => failure(() => engine.saveState('shop', question))")
    assert failed["code"] == "invalid_request" and "server" in failed["message"]


TOO_LONG = server.refusal(400, "At most 64 tokens.", "context_length_exceeded", "messages")


FAULTS: tuple[tuple[Reply, str, str, str], ...] = (
    (server.refusal(401, "Wrong key.", "invalid_api_key"), "", "unauthorized", "Wrong key."),
    (server.refusal(429, "Too many."), "", "rate_limited", "Too many."),
    (TOO_LONG, "", "context_length_exceeded", "At most 64 tokens."),
    (server.refusal(500, "Crashed."), "", "remote_error", "Crashed."),
    (server.portal, "", "network_error", "sent a page in place of an answer"),
    (server.gateway, "", "network_error", "answered with status 502"),
    (server.broken, "Hal", "network_error", "answer broke off"),
    (server.failing, "Hal", "remote_error", "It is too hot."),
)


def test_what_goes_wrong_is_a_typed_error(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {})
    for reply, text, code, message in FAULTS:
        far.next = reply
        found = page.run("() => streamed(engine)")
        assert (found["text"], found["end"]["code"]) == (text, code)
        assert message in found["end"]["message"] and found["end"]["name"] == "EngineError"
        # The next one is answered.
        assert page.run("() => streamed(engine)") == {"text": "".join(WORDS), "end": None}


def test_a_server_that_falls_silent_is_left(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {"silenceMs": 4_000})
    far.next = server.silent
    found = page.run("() => streamed(engine)")
    assert (found["text"], found["end"]["code"]) == ("", "network_error")
    assert "answer broke off" in found["end"]["message"]
    assert page.run("() => streamed(engine)") == {"text": "".join(WORDS), "end": None}


def test_messages_and_keys_follow_no_server_elsewhere(page: RealBrowser, far: OpenAiServer):
    elsewhere = OpenAiServer()
    with serving(elsewhere.app()) as site:
        page.run(OPEN, {"apiKey": "sk-1"})
        for stream in ("true", "false"):
            far.next = server.redirected(f"{site.url}v1/chat/completions")
            failed = page.run(
                """(stream) => failure(async () => {
                  const answer = await engine.chat.completions.create({ messages: question, stream });
                  if (stream) await answer.next();
                })""".replace("(stream) =>", f"(stream = {stream}) =>")
            )
            assert failed["code"] == "network_error"
    assert elsewhere.keys == [] and len(far.asked) == 2


def test_whole_answers_fail_as_streams_do(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {})
    for reply, code in ((server.portal, "network_error"), (TOO_LONG, "context_length_exceeded")):
        far.next = reply
        failed = page.run(
            "() => failure(() => engine.chat.completions.create({ messages: question }))"
        )
        assert (failed["name"], failed["code"]) == ("EngineError", code)


def test_abort_ends_an_answer_with_its_reason(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {})
    far.next = server.silent
    end = page.run(
        """async () => {
          const controller = new AbortController();
          const answer = streamed(engine, { signal: controller.signal });
          setTimeout(() => controller.abort(new RangeError("mine")), 100);
          return (await answer).end;
        }"""
    )
    assert (end["name"], end["message"]) == ("RangeError", "mine")


def test_answers_end_with_the_engine(page: RealBrowser, far: OpenAiServer):
    page.run(OPEN, {})
    far.next = server.silent
    codes = page.run(
        """async () => {
          const answer = streamed(engine);
          setTimeout(() => engine.dispose(), 100);
          const { code } = (await answer).end;
          return [code, (await streamed(engine)).end.code];
        }"""
    )
    assert codes == ["model_not_loaded", "model_not_loaded"]


def test_server_that_is_away_or_wants_a_key_is_left_for_the_next(
    page: RealBrowser, far: OpenAiServer
):
    far.key = "sk-1"
    backend = page.run(
        """async () => {
          const away = { remote: "http://127.0.0.1:9/v1", consent: true };
          const backends = [away, { ...backend }, { ...backend, apiKey: "sk-1" }, "wasm"];
          const engine = await createEngine({ ...options(), backends });
          const found = engine.backend;
          engine.dispose();
          return found;
        }"""
    )
    assert [(left["kind"], left["code"]) for left in backend["tried"]] == [
        ("remote", "network_error"),
        ("remote", "unauthorized"),
    ]
    assert "Incorrect API key" in backend["tried"][1]["reason"]


def test_server_without_models_is_not_used(page: RealBrowser, far: OpenAiServer):
    far.listed = {"data": []}
    failed = page.run("() => failure(() => createEngine(options({}, [])))")
    assert failed["code"] == "network_error" and "lists no models" in failed["message"]
    page.run(OPEN, {"model": "unlisted"})
    assert page.run("() => engine.model") == "unlisted"


def test_what_would_run_is_told_without_asking(page: RealBrowser, far: OpenAiServer):
    found = page.run(
        """async () => {
          const consent = consents(true);
          const reports = async (backends) =>
            (await capabilities({ workerURL: "worker.js", model: [bundle], backends }))[0];
          const remote = { ...backend, consent };
          return [
            await reports(["webgpu-f16", "webgpu-f32", "wasm"]),
            await reports(["webgpu-f32", remote]),
            (await capabilities({ workerURL: "worker.js", backends: [remote] }))[0],
            asked.length,
          ];
        }"""
    )
    local, fallback, remote, asked = found
    assert (local["id"], local["fits"], local["backend"], local["speed"]) == (
        "fake-q4f32_1",
        False,
        None,
        None,
    )
    assert local["problems"][0]["code"] == "webgpu_unavailable"
    assert [left["kind"] for left in local["problems"][0]["tried"]] == LOCAL
    assert fallback["backend"]["kind"] == remote["backend"]["kind"] == "remote"
    assert [left["code"] for left in fallback["backend"]["tried"]] == ["webgpu_unavailable"]
    assert (fallback["fits"], fallback["missingBytes"], fallback["speed"]) == (False, 0, None)
    assert asked == 0 and far.keys == []


def test_prompt_api_answers_from_the_server(page: RealBrowser, far: OpenAiServer):
    found = page.run(
        """async () => {
          const Model = createLanguageModel(options({}, []));
          const session = await Model.create({ samplingMode: "most-predictable" });
          const text = await session.prompt("Hi");
          const found = [await Model.availability(), text, session.contextUsage];
          session.destroy();
          return found;
        }"""
    )
    assert found == ["available", "".join(WORDS), 12]
    assert far.asked[0]["temperature"] == 0


def test_the_daemon_is_such_a_server(browser: RealBrowser, engine_folder: Any, daemon: Daemon):
    pages = StaticFiles(directory=engine_folder, html=True)
    routes = [Mount("/v1", Forward(daemon.url)), Mount("/", pages)]
    with serving(Starlette(routes=routes)) as site:
        set_up(browser, site.url, f"{site.url}v1")
        browser.run(OPEN, {})
        answer = browser.run(
            """async () => {
              const messages = [{ role: "user", content: "What is 17 + 25?" }];
              const answer = await engine.chat.completions.create({ messages, temperature: 0 });
              return [answer.choices[0].message.content, answer.usage.extra.decode_tokens_per_s > 0];
            }"""
        )
    assert answer == ["17 + 25 = 42.", True]
