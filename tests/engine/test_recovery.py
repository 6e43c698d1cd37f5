"""A device that goes away, in a browser."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser import EnginePage, engine_page

GREEDY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count to ten."}],
    "temperature": 1,
    "seed": 3,
    "max_tokens": 10,
    "ignore_eos": True,
}
# Long enough that it is still written when the page's wish to lose the device arrives.
LONG = {**GREEDY, "max_tokens": 90}


def test_an_answer_survives_the_loss_of_the_device(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    undisturbed = fresh.stream(LONG)
    lost = fresh.stream(LONG, loseAt=[4])
    assert lost["ended"] == "done"
    assert lost["text"] == undisturbed["text"] and lost["finish"] == ["length"]
    fresh.page.wait_for_function("() => events.some(({ state }) => state === 'recovered')")
    states = [event["state"] for event in fresh.events() if event["kind"] == "device"]
    assert states == ["lost", "recovering", "recovered"]


def test_the_model_comes_back_after_a_loss_between_answers(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    before = fresh.complete(**GREEDY)
    fresh.run("() => engine.debug.loseDevice()")
    fresh.page.wait_for_function("() => events.some(({ state }) => state === 'recovered')")
    after = fresh.complete(**GREEDY)
    assert after["choices"][0]["message"] == before["choices"][0]["message"]
    assert after["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_device_that_is_lost_again_and_again_is_given_up(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    fresh.run(
        """() => {
          engine.onEvent(({ state }) => state === "recovered" && engine.debug.loseDevice());
        }"""
    )
    lost = fresh.stream({**LONG, "n": 16}, loseAt=[2])
    assert lost["ended"]["code"] == "device_lost"
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"


ERROR_ON_MESSAGE = """
let device;
const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  return (device = await request.call(this, descriptor));
};
addEventListener("message", ({ data }) => {
  // Usage 0 is invalid, and no error scope is open here.
  if (data === "break") device.createBuffer({ size: 4, usage: 0 });
});"""


def test_an_error_of_the_gpu_ends_the_answer(
    browser: Browser, site_url: str, bundles: Path
) -> None:
    with engine_page(browser, site_url, before_worker=ERROR_ON_MESSAGE) as page:
        page.load("tiny-q0f32")
        page.run("() => worker.postMessage('break')")
        failed = page.stream({**LONG, "n": 16})["ended"]
        assert failed["code"] == "internal" and "GPU" in failed["message"]
        failed = page.complete_failure(**GREEDY)
        assert failed["code"] == "model_not_loaded"
        page.load("tiny-q0f32")
        assert page.complete(**GREEDY)["usage"]["completion_tokens"] == 10
