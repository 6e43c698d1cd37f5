"""The page with a daemon behind it: whose model answers, how it streams, what can go wrong."""

import json
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.page.conftest import OpenChat

MODEL = "pocket-q4f16_1"
NO_WEBGPU = "delete Navigator.prototype.gpu;"
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 0},
    "extra": {"decode_tokens_per_s": 45.6, "time_to_first_token_s": 0.2},
}


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


def stream(*pieces: str) -> str:
    content = [chunk(piece) for piece in pieces]
    content += [chunk(finish="stop"), {"choices": [], "usage": USAGE}]
    events = [f"data: {json.dumps(entry)}\n\n" for entry in content]
    return "".join([": keep-alive\n\n", *events, "data: [DONE]\n\n"])


def error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


class Daemon:
    """Answers as the real one does; remembers what it was asked."""

    def __init__(self, *pieces: str, key: str | None = None) -> None:
        self.key = key
        self.asked: list[dict[str, Any]] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.body = stream(*pieces)
        self.proxy: tuple[int, str] | None = None
        self.described: dict[str, Any] = {}
        self.silent = False
        self.away = False

    def __call__(self, route: Route) -> None:
        request = route.request
        given = request.headers.get("authorization")
        if self.away:
            route.abort("connectionrefused")
        elif self.proxy:
            route.fulfill(status=self.proxy[0], body=self.proxy[1])
        elif self.key and given != f"Bearer {self.key}":
            route.fulfill(status=401, json=error("Give an API key.", "invalid_api_key"))
        elif request.url.endswith(f"/v1/models/{MODEL}"):
            route.fulfill(json={"id": MODEL, "object": "model", **self.described})
        elif not self.silent:
            self._answer(route)

    def _answer(self, route: Route) -> None:
        self.asked.append(json.loads(route.request.post_data or ""))
        if self.refusal:
            route.fulfill(status=self.refusal[0], json=self.refusal[1])
        else:
            route.fulfill(content_type="text/event-stream", body=self.body)


def use_daemon(chat: Any) -> None:
    chat.open_models()
    chat.page.get_by_role("button", name=f"Use this model: {MODEL}, answered by the host").click()


def test_the_browser_answers_unless_the_host_is_chosen(open_chat: OpenChat):
    daemon = Daemon("From ", "the host.")
    chat = open_chat({"answers": ["From the browser."]}, daemon=daemon)
    privacy = chat.page.locator("#privacy")
    expect(privacy).to_contain_text("Nothing you type leaves it.")
    chat.ask("Who are you?")
    expect(chat.answers.last).to_contain_text("From the browser.")
    assert daemon.asked == []
    use_daemon(chat)
    expect(privacy).to_contain_text("What you type goes there")
    expect(chat.page.locator("#model-state")).to_have_text("Ready on the host")
    chat.ask("And now?")
    expect(chat.answers.last).to_contain_text("From the host.")
    expect(chat.answers.last).to_contain_text("45.6 tokens/s")
    request = daemon.asked[0]
    assert (request["model"], request["stream"]) == (MODEL, True)
    assert [message["content"] for message in request["messages"]] == [
        "Who are you?",
        "From the browser.",
        "And now?",
    ]


@pytest.mark.parametrize(
    ("described", "asked"),
    [
        ({}, set()),
        ({"sampling": {"temperature": 0.6}}, set()),
        ({"sampling": {}}, {("temperature", 0.7), ("top_p", 0.9), ("min_p", 0.05)}),
    ],
)
def test_the_host_says_what_its_models_files_name(
    open_chat: OpenChat, described: dict[str, Any], asked: set[tuple[str, float]]
):
    daemon = Daemon("Hi.")
    daemon.described = described
    chat = open_chat(bundles=(), daemon=daemon)
    chat.ask("Hello")
    (request,) = daemon.asked
    given = {"temperature", "top_p", "min_p"} & request.keys()
    assert {(name, request[name]) for name in given} == asked


def test_the_choice_is_kept(open_chat: OpenChat):
    chat = open_chat(daemon=Daemon("Hi."))
    use_daemon(chat)
    chat.expect_engine("ready")
    chat.reload()
    expect(chat.page.locator("#model-state")).to_have_text("Ready on the host")
    assert chat.page.evaluate("fake.engine.requests.length") == 0


def test_without_webgpu_the_host_answers(open_chat: OpenChat):
    chat = open_chat({"answers": ["never"]}, daemon=Daemon("From the host."), init=NO_WEBGPU)
    chat.ask("Hello")
    expect(chat.answers.last).to_contain_text("From the host.")


def test_stop_ends_the_request(open_chat: OpenChat):
    daemon = Daemon("late")
    daemon.silent = True
    chat = open_chat(bundles=(), daemon=daemon)
    chat.box.fill("Hello")
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.send_button.click()
    with chat.page.expect_event("requestfailed", lambda request: request == asked.value):
        chat.stop_button.click()
    chat.expect_engine("ready")


def test_errors_of_the_host_are_shown(open_chat: OpenChat):
    daemon = Daemon()
    daemon.refusal = (429, error("4 requests are being answered or wait.", "queue_full"))
    chat = open_chat(bundles=(), daemon=daemon)
    chat.send("Hello")
    expect(chat.answers.last).to_contain_text("4 requests are being answered")
    expect(chat.answers.last).to_contain_text("Wait a moment")


def test_a_key_is_asked_for_once(open_chat: OpenChat):
    chat = open_chat(bundles=(), daemon=Daemon("Wel", "come.", key="sk-1"), ready=False)
    key = chat.page.get_by_label("API key")
    key.fill("sk-wrong")
    chat.page.get_by_role("button", name="Use this key").click()
    expect(chat.page.locator("#model-card")).to_contain_text("Give an API key.")
    key.fill("sk-1")
    chat.page.get_by_role("button", name="Use this key").click()
    chat.expect_engine("ready")
    chat.ask("Hello")
    expect(chat.answers.last).to_contain_text("Welcome.")
    chat.reload()


def test_a_host_that_went_away_says_so(open_chat: OpenChat):
    daemon = Daemon("Hi.")
    chat = open_chat(bundles=(), daemon=daemon)
    daemon.away = True
    chat.send("Hello")
    expect(chat.answers.last).to_contain_text("The daemon can't be reached.")


def ask_until_problem(chat: Any) -> None:
    chat.send("Hello")
    expect(chat.answers.last.locator(".problem")).to_be_visible()


def test_answer_that_breaks_off_says_so_and_keeps_its_beginning(open_chat: OpenChat):
    daemon = Daemon()
    daemon.body = stream("Half ", "an").replace("data: [DONE]\n\n", "")
    chat = open_chat(bundles=(), daemon=daemon)
    ask_until_problem(chat)
    expect(chat.answers.last).to_contain_text("The daemon's answer broke off.")
    expect(chat.texts.last).to_have_text("Half an")


def test_error_in_the_middle_of_an_answer(open_chat: OpenChat):
    daemon = Daemon()
    failure = json.dumps(error("The device is too hot.", "overheated"))
    daemon.body = f"data: {json.dumps(chunk('Half'))}\n\ndata: {failure}\n\ndata: [DONE]\n\n"
    chat = open_chat(bundles=(), daemon=daemon)
    ask_until_problem(chat)
    expect(chat.answers.last).to_contain_text("The device is too hot.")
    expect(chat.texts.last).to_have_text("Half")


def test_proxy_that_answers_in_the_hosts_place(open_chat: OpenChat):
    chat = open_chat(bundles=(), daemon=(daemon := Daemon()))
    daemon.proxy = (503, "<h1>Bad gateway</h1>")
    ask_until_problem(chat)
    expect(chat.answers.last).to_contain_text("The daemon answered with status 503.")
    expect(chat.answers.last).to_contain_text("It is starting or stopping")


def test_key_that_is_taken_back_is_asked_for_again(open_chat: OpenChat):
    daemon = Daemon("Welcome.", key="sk-1")
    chat = open_chat(
        bundles=(), daemon=daemon, init="sessionStorage['mlc-edge.daemon-key'] = 'sk-1';"
    )
    daemon.key = "sk-2"
    ask_until_problem(chat)
    chat.page.get_by_role("button", name="Try again").click()
    key = chat.page.get_by_label("API key")
    key.fill("sk-2")
    key.press("Enter")
    expect(chat.answers.last).to_contain_text("Welcome.")


def test_key_goes_to_the_api_alone_and_is_not_kept(open_chat: OpenChat):
    chat = open_chat(daemon=Daemon("Welcome.", key="sk-secret"))
    sent: list[tuple[str, str | None]] = []
    chat.page.on("request", lambda r: sent.append((r.url, r.headers.get("authorization"))))
    use_daemon(chat)
    chat.page.get_by_label("API key").fill("sk-secret")
    chat.page.get_by_role("button", name="Use this key").click()
    chat.expect_engine("ready")
    chat.ask("Hello")
    chat.reload()
    assert {url for url, key in sent if key} and all("/v1/" in url for url, key in sent if key)
    assert not [url for url, _ in sent if "sk-secret" in url]
    kept = chat.page.evaluate(
        "async () => JSON.stringify([{ ...localStorage }, document.cookie, location.href])"
    )
    assert "sk-secret" not in kept
    # A browser's model gets none of it.
    chat.open_models()
    chat.page.get_by_role("button", name=f"Use this model: {MODEL}", exact=True).click()
    chat.expect_engine("ready")
    chat.ask("And now?")
    assert "sk-secret" not in json.dumps(chat.requests())


def test_browser_that_keeps_nothing_takes_a_key_all_the_same(open_chat: OpenChat):
    denied = "{ get() { throw new DOMException('no', 'SecurityError'); } }"
    blocked = f"Object.defineProperty(window, 'sessionStorage', {denied});"
    chat = open_chat(bundles=(), daemon=Daemon("Welcome.", key="sk-1"), init=blocked, ready=False)
    chat.page.get_by_label("API key").fill("sk-1")
    chat.page.get_by_role("button", name="Use this key").click()
    chat.expect_engine("ready")
    chat.ask("Hello")
    expect(chat.answers.last).to_contain_text("Welcome.")


def test_browsers_own_model_is_back_once_it_can_run(open_chat: OpenChat):
    """Where what people type goes is their choice: the page's own is not remembered."""
    no_gpu = {"code": "webgpu_unavailable", "message": "No WebGPU.", "remedy": "Wait."}
    chat = open_chat({"misfits": {"pocket": no_gpu}}, daemon=Daemon("From the host."))
    expect(chat.page.locator("#model-state")).to_have_text("Ready on the host")
    chat.page.add_init_script("script.misfits = {};")
    chat.reload()
    expect(chat.page.locator("#model-state")).to_have_text("Ready")


def test_model_of_the_browser_answers_again_when_it_is_chosen(open_chat: OpenChat):
    daemon = Daemon("From the host.")
    chat = open_chat({"answers": ["From the browser."]}, daemon=daemon)
    use_daemon(chat)
    chat.ask("Hello")
    expect(chat.answers.last).to_contain_text("From the host.")
    # The GPU is for others then.
    assert chat.page.evaluate("fake.engine.unloads") == 1
    chat.open_models()
    chat.page.get_by_role("button", name=f"Use this model: {MODEL}", exact=True).click()
    expect(chat.page.locator("#model-state")).to_have_text("Ready")
    expect(chat.page.locator("#privacy")).to_contain_text("Nothing you type leaves it.")
    chat.ask("And now?")
    expect(chat.answers.last).to_contain_text("From the browser.")
    assert len(daemon.asked) == 1


def test_a_key_stays_typed_while_other_things_change(open_chat: OpenChat):
    chat = open_chat({}, daemon=Daemon("Hi", key="k"), init=NO_WEBGPU, ready=False)
    field = chat.page.get_by_label("API key")
    field.fill("half a key")
    chat.open_models()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    expect(field).to_have_value("half a key")
