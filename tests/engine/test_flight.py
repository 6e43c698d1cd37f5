"""Answers whose next token is on its way before the one before it is known, against one token at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page, serving

IN_FLIGHT = "STEPS_IN_FLIGHT = 2;"
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
COMMON: dict[str, Any] = {"messages": HELLO, "ignore_eos": True, "max_tokens": 8, "seed": 3}
REQUESTS: list[dict[str, Any]] = [
    {"temperature": 1.2},
    {"temperature": 0, "logprobs": True, "top_logprobs": 4},
    {"temperature": 0.9, "top_p": 0.9, "top_k": 50, "n": 3, "logprobs": True},
    {"logit_bias": {"300": 3, "301": -100}, "logprobs": True},
    {"frequency_penalty": 1.5, "repetition_penalty": 1.1, "logprobs": True},
    # Ends by a token of the model's.
    {"ignore_eos": False, "logit_bias": {"2": 7}, "temperature": 1.5, "max_tokens": 30, "n": 3},
    {"max_tokens": 1},
    # To the end of the context.
    {"max_tokens": None, "temperature": 1},
]
# Tells, since it was last asked, how many steps were on their way at once, of how many submits, and the bytes
# that were written.
NOTES = """
let underWay = 0;
let most = 0;
let submits = 0;
let written = 0;
const { mapAsync } = GPUBuffer.prototype;
GPUBuffer.prototype.mapAsync = async function (...args) {
  most = Math.max(most, (underWay += 1));
  await mapAsync.apply(this, args).finally(() => (underWay -= 1));
};
const { submit } = GPUQueue.prototype;
GPUQueue.prototype.submit = function (...args) {
  submits += 1;
  return submit.apply(this, args);
};
const { writeBuffer } = GPUQueue.prototype;
GPUQueue.prototype.writeBuffer = function (...args) {
  written += (args[4] ?? args[2].length) * (args[2].BYTES_PER_ELEMENT ?? 1);
  return writeBuffer.apply(this, args);
};
const channel = new BroadcastChannel("notes");
channel.onmessage = ({ data }) => {
  if (data !== "tell") return;
  channel.postMessage({ most, submits, written });
  most = submits = written = 0;
};"""
TOLD = """() => new Promise((resolve) => {
  const channel = new BroadcastChannel("notes");
  channel.onmessage = ({ data }) => {
    channel.close();
    resolve(data);
  };
  channel.postMessage("tell");
})"""

# Makes what comes back of a token as it is for logits that aren't numbers.
SPOILED = """
const HIGHEST = 2;
let left = Infinity;
const { getMappedRange } = GPUBuffer.prototype;
GPUBuffer.prototype.getMappedRange = function (...args) {
  const range = getMappedRange.apply(this, args);
  if ((left -= 1) === 0) new Float32Array(range)[HIGHEST] = NaN;
  return range;
};
addEventListener("message", ({ data }) => {
  if (data === "spoil the fourth") left = 4;
});"""


@pytest.fixture(scope="module")
def plain_site_url(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same site with an engine that reads each token before it begins the next."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("page.html", "client.js", "bundles"):
        (folder / name).symlink_to(site / name)
    worker = (site / "worker.js").read_text()
    assert IN_FLIGHT in worker
    (folder / "worker.js").write_text(worker.replace(IN_FLIGHT, IN_FLIGHT.replace("2", "1")))
    with serving(folder) as url:
        yield url


@pytest.fixture(scope="module")
def pages(
    browser: Browser, site_url: str, plain_site_url: str, drawing_bundle: None
) -> Iterator[tuple[EnginePage, EnginePage]]:
    """One whose tokens are in flight, and one where they come one by one; both with tiny-drawing."""
    with (
        engine_page(browser, site_url, before_worker=NOTES) as flying,
        engine_page(browser, plain_site_url, before_worker=NOTES) as plain,
    ):
        for page in (flying, plain):
            page.load("tiny-drawing", deterministic=True)
        yield flying, plain


def said(answer: dict[str, Any]) -> tuple[Any, ...]:
    """All of an answer but for times and its id."""
    usage = {name: value for name, value in answer["usage"].items() if name != "extra"}
    return answer["choices"], usage


def both(pages: tuple[EnginePage, EnginePage], **request: Any) -> dict[str, Any]:
    """An answer that is the same with tokens in flight and without."""
    flying, plain = (page.complete(**{**COMMON, **request}) for page in pages)
    assert said(flying) == said(plain)
    return flying


def test_answers_are_the_same_bit_by_bit(pages: tuple[EnginePage, EnginePage]) -> None:
    answers = [both(pages, **request) for request in REQUESTS]
    endings = {choice["finish_reason"] for answer in answers for choice in answer["choices"]}
    assert endings == {"stop", "length"}


def test_two_steps_are_on_their_way_and_one_submit_makes_a_token(
    pages: tuple[EnginePage, EnginePage],
) -> None:
    for page, most in zip(pages, (2, 1), strict=True):
        page.complete(**COMMON)
        page.run(TOLD)
        page.complete(**COMMON)
        told = page.run(TOLD)
        assert told["most"] == most
        # The prompt is there but for what its last chunk lacks, which is one step.
        assert told["submits"] == COMMON["max_tokens"]


def test_what_penalties_change_is_all_that_is_written(
    pages: tuple[EnginePage, EnginePage],
) -> None:
    page = pages[0]
    written = {}
    for penalty in (1.0, 1.1):
        for count in (8, 16):
            request = {**COMMON, "repetition_penalty": penalty, "max_tokens": count}
            # The second one finds all else as it left it.
            page.complete(**request)
            page.run(TOLD)
            page.complete(**request)
            written[penalty, count] = page.run(TOLD)["written"]
    plain, penalised = (written[penalty, 16] - written[penalty, 8] for penalty in (1.0, 1.1))
    # An id and two numbers; and the input, which is no device's own where it waits for the token.
    assert penalised - plain <= 8 * 4 * (3 + 1)


def test_stops_in_the_middle_of_what_is_in_flight(pages: tuple[EnginePage, EnginePage]) -> None:
    whole = both(pages, temperature=1, max_tokens=10, n=2)["choices"][0]["message"]["content"]
    for begin in range(1, len(whole) - 3, max(1, len(whole) // 5)):
        stopped = both(pages, temperature=1, max_tokens=10, stop=[whole[begin : begin + 3]])
        assert stopped["choices"][0]["finish_reason"] == "stop"
        # What goes on from it takes over what was computed of it alone.
        answer = stopped["choices"][0]["message"]
        both(pages, messages=[*HELLO, answer, *HELLO], max_tokens=2)


def test_answers_that_are_stopped_leave_nothing(pages: tuple[EnginePage, EnginePage]) -> None:
    fresh = both(pages, temperature=1, max_tokens=12)
    for count in range(1, 6):
        for page in pages:
            request = {**COMMON, "temperature": 1, "max_tokens": 90}
            assert page.stream(request, abortAfter=count)["ended"]["name"] == "AbortError"
        assert said(both(pages, temperature=1, max_tokens=12))[0] == fresh["choices"]


def test_requests_that_come_in_flight_wait_their_turn(pages: tuple[EnginePage, EnginePage]) -> None:
    requests = [{**COMMON, "seed": seed, "temperature": 1} for seed in range(3)]
    alone = [said(pages[1].complete(**request))[0] for request in requests]
    at_once = "(all) => Promise.all(all.map((one) => engine.chat.completions.create(one)))"
    assert [said(answer)[0] for answer in pages[0].run(at_once, requests)] == alone


def test_a_device_that_is_lost_in_flight(pages: tuple[EnginePage, EnginePage]) -> None:
    flying, plain = pages
    request = {**COMMON, "temperature": 1, "max_tokens": 60}
    undisturbed = plain.stream(request)
    lost = flying.stream(request, loseAt=[3])
    assert lost["ended"] == "done" and lost["text"] == undisturbed["text"]
    both(pages, temperature=1)


def test_a_token_that_cannot_be_drawn_ends_its_request_alone(
    browser: Browser, site_url: str, pages: tuple[EnginePage, EnginePage]
) -> None:
    request = {**COMMON, "temperature": 1, "logprobs": True}
    wanted = pages[1].complete(**request)["choices"]
    with engine_page(browser, site_url, before_worker=SPOILED) as page:
        page.load("tiny-drawing", deterministic=True)
        page.run("() => worker.postMessage('spoil the fourth')")
        spoiled = page.stream(request)
        assert spoiled["ended"]["code"] == "internal"
        told = [choice for chunk in spoiled["chunks"] for choice in chunk["choices"]]
        logprobs = [
            token for one in told if one["logprobs"] for token in one["logprobs"]["content"]
        ]
        assert logprobs == wanted[0]["logprobs"]["content"][: len(logprobs)] and len(logprobs) <= 3
        assert page.complete(**request)["choices"] == wanted
