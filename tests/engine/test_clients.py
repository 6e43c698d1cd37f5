"""Clients of OpenAI's API that take a `fetch`, unchanged: the `openai` package and the AI SDK."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser import ROOT, EnginePage, bundle_script

HELLO = [{"role": "user", "content": "Hello, who are you?"}]
OPTIONS = {"temperature": 0, "ignore_eos": True, "max_tokens": 6}
SETUP = """async ({ script }) => {
  const { OpenAI, createOpenAICompatible, generateText, streamText } = await import(script);
  const network = globalThis.fetch;
  globalThis.asked = [];
  globalThis.fetch = (...request) => { asked.push(String(request[0])); return network(...request); };
  const baseURL = "https://nowhere.example/v1";
  globalThis.openai = new OpenAI({
    baseURL, apiKey: "none", fetch: engine.fetch, dangerouslyAllowBrowser: true, maxRetries: 0,
  });
  globalThis.aiModel = createOpenAICompatible({ name: "edge", baseURL, fetch: engine.fetch })("tiny-q0f32");
  Object.assign(globalThis, { generateText, streamText });
}"""

POST = """
  const url = "https://nowhere.example/v1/chat/completions";
  const response = await engine.fetch(url, { method: "POST", body });
  return [response.status, (await response.json()).error];
"""


@pytest.fixture(scope="module")
def clients(tiny: EnginePage, site: Path) -> EnginePage:
    bundle_script(ROOT / "tests/engine/clients.ts", site / "clients.js")
    tiny.run(SETUP, {"script": tiny.page.url.replace("page.html", "clients.js")})
    return tiny


def whole(page: EnginePage) -> str:
    answer = page.complete(messages=HELLO, **OPTIONS)
    text: str = answer["choices"][0]["message"]["content"]
    assert text
    return text


def test_the_openai_package_gets_whole_answers_and_streams(clients: EnginePage) -> None:
    params = {"model": "tiny-q0f32", "messages": HELLO, **OPTIONS}
    answer = clients.run("(p) => openai.chat.completions.create(p)", params)
    assert answer["choices"][0]["message"]["content"] == whole(clients)
    streamed = clients.run(
        """async (p) => {
          let text = "";
          for await (const chunk of await openai.chat.completions.create({ ...p, stream: true })) {
            text += chunk.choices[0]?.delta?.content ?? "";
          }
          return text;
        }""",
        params,
    )
    assert streamed == whole(clients)
    models = clients.run("async () => (await openai.models.list()).data.map(({ id }) => id)")
    assert models == ["tiny-q0f32"]
    assert clients.run("async () => (await openai.models.retrieve('tiny-q0f32')).object") == "model"
    assert clients.run("() => asked") == []


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"temperature": 9}, 400, "invalid_request", "temperature"),
        ({"model": "another"}, 404, "model_not_found", "model"),
        (
            {"messages": [{"role": "user", "content": "word " * 400}]},
            400,
            "context_length_exceeded",
            "messages",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_package_gets_errors(
    clients: EnginePage, change: dict[str, Any], status: int, code: str, param: str, stream: bool
) -> None:
    params = {"model": "tiny-q0f32", "messages": HELLO, "stream": stream, **OPTIONS, **change}
    failed = clients.run(
        """(p) => openai.chat.completions.create(p).then(
          () => null,
          ({ status, code, param, name }) => ({ status, code, param, name }),
        )""",
        params,
    )
    assert (failed["status"], failed["code"], failed["param"]) == (status, code, param)


def test_what_is_not_there_is_not_found(clients: EnginePage) -> None:
    for call in ("models.retrieve('other')", "embeddings.create({ input: 'a', model: 'b' })"):
        assert clients.run(f"() => openai.{call}.then(() => 0, ({{ status }}) => status)") == 404


def test_leaving_a_stream_ends_the_answer(clients: EnginePage) -> None:
    taken = clients.run(
        """async (p) => {
          const controller = new AbortController();
          const stream = await openai.chat.completions.create(
            { ...p, stream: true, max_tokens: 60, n: 16 }, { signal: controller.signal });
          let count = 0;
          for await (const chunk of stream) if ((count += 1) === 3) break;
          const other = await openai.chat.completions.create(
            { ...p, stream: true, max_tokens: 60, n: 16 }, { signal: controller.signal });
          for await (const chunk of other) controller.abort();
          return count;
        }""",
        {"model": "tiny-q0f32", "messages": HELLO, **OPTIONS},
    )
    assert taken == 3
    # The engine answers one request at a time: it is free again.
    assert whole(clients)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("null", None),
        ("[]", None),
        ("5", None),
        ("{", None),
        ('{"messages": [], "stream": "true"}', "stream"),
        ('{"messages": [], "stream": 0}', "stream"),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    clients: EnginePage, body: str, param: str | None
) -> None:
    status, error = clients.run(f"async (body) => {{ {POST} }}", body)
    assert (status, error["code"], error["param"]) == (400, "invalid_request", param)


@pytest.mark.parametrize(
    ("abort", "name"),
    [
        ("controller.abort(new RangeError('mine'))", "RangeError"),
        ("controller.abort(new DOMException('late', 'TimeoutError'))", "TimeoutError"),
        ("controller.abort()", "AbortError"),
    ],
)
def test_a_stream_that_is_aborted_fails_with_the_reason(
    clients: EnginePage, abort: str, name: str
) -> None:
    ended = clients.run(
        f"""async (params) => {{
          const controller = new AbortController();
          const body = JSON.stringify(params);
          const response = await engine.fetch("https://nowhere.example/v1/chat/completions", {{
            method: "POST", body, signal: controller.signal,
          }});
          const reader = response.body.getReader();
          await reader.read();
          {abort};
          try {{
            while (!(await reader.read()).done);
            return "done";
          }} catch (error) {{
            return error === controller.signal.reason ? error.name : `another: ${{error}}`;
          }}
        }}""",
        {"messages": HELLO, **OPTIONS, "stream": True, "max_tokens": 60, "n": 16},
    )
    assert ended == name


def test_a_disposed_engine_lists_no_model(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    listed = fresh.run(
        """async () => {
          const ids = async () => {
            const response = await engine.fetch("https://nowhere.example/v1/models");
            return (await response.json()).data.map(({ id }) => id);
          };
          const before = await ids();
          engine.dispose();
          return [before, await ids(), engine.model];
        }"""
    )
    assert listed == [["tiny-q0f32"], [], None]


def test_the_ai_sdk_gets_whole_answers_and_streams(clients: EnginePage) -> None:
    options = {"messages": HELLO, "temperature": 0, "maxOutputTokens": 6, "maxRetries": 0}
    reference = clients.complete(messages=HELLO, temperature=0, max_tokens=6)
    expected = reference["choices"][0]["message"]["content"]
    found = clients.run(
        """async (options) => {
          const whole = await generateText({ model: aiModel, ...options });
          const parts = [];
          const stream = streamText({ model: aiModel, ...options });
          for await (const part of stream.textStream) parts.push(part);
          return { text: whole.text, parts, tokens: whole.usage.outputTokens, end: whole.finishReason };
        }""",
        options,
    )
    assert found["text"] == expected == "".join(found["parts"])
    assert found["tokens"] == reference["usage"]["completion_tokens"]
    assert found["end"] == reference["choices"][0]["finish_reason"]
