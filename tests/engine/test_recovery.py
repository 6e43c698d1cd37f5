"""A device that goes away, in a browser."""

from typing import Any

from tests.browser import EnginePage

GREEDY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count to ten."}],
    "temperature": 1,
    "seed": 3,
    "max_tokens": 10,
    "ignore_eos": True,
}


def test_an_answer_survives_the_loss_of_the_device(fresh: EnginePage) -> None:
    fresh.load("tiny-q0f32")
    undisturbed = fresh.stream(GREEDY)
    lost = fresh.stream(GREEDY, loseAt=[4])
    assert lost["ended"] == "done"
    assert lost["text"] == undisturbed["text"] and lost["finish"] == ["length"]
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
    lost = fresh.stream(GREEDY, loseAt=[2, 4, 6])
    assert lost["ended"]["code"] == "device_lost"
    assert fresh.load("tiny-q0f32")["id"] == "tiny-q0f32"
