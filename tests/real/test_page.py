"""The real model in a browser: the numbers that a CPU computes, and an answer on the page."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from mlc_edge import MLCEngine
from tests.browser import engine_page
from tests.end_to_end.conftest import Host
from tests.end_to_end.test_chat import ask, wait_until_ready
from tests.real.questions import chat

pytestmark = pytest.mark.real
ASKED = {
    "messages": chat("Who wrote Romeo and Juliet?"),
    "temperature": 0,
    "max_tokens": 8,
    "logprobs": True,
    "top_logprobs": 20,
}
# Largest difference of log probabilities: of the same weights in float32, where a browser's bundle has
# norms in float16, and of what CPUs compute in int8.
TOLERANCE = {"exact": 1e-2, "int8": 0.5}


def log_probabilities(content: list[dict[str, Any]]) -> list[dict[str, float]]:
    """By place: the likeliest tokens, the chosen one first."""
    return [{top["token"]: top["logprob"] for top in place["top_logprobs"]} for place in content]


@pytest.fixture(scope="module")
def in_browser(browser: Browser, site_url: str, web_bundle: Path) -> list[dict[str, float]]:
    with engine_page(browser, site_url) as page:
        page.load(web_bundle.name)
        answer = page.complete(**ASKED)
    return log_probabilities(answer["choices"][0]["logprobs"]["content"])


@pytest.mark.parametrize("kind", TOLERANCE)
def test_a_browser_computes_what_a_cpu_does(
    request: pytest.FixtureRequest, in_browser: list[dict[str, float]], kind: str
):
    bundle = request.getfixturevalue("exact_bundle" if kind == "exact" else "bundle")
    with MLCEngine(bundle) as engine:
        answer = engine.chat.completions.create(**ASKED).to_dict()
    on_cpu = log_probabilities(answer["choices"][0]["logprobs"]["content"])
    assert [next(iter(place)) for place in in_browser] == [next(iter(place)) for place in on_cpu]
    differences = [
        abs(here[token] - there[token])
        for here, there in zip(in_browser, on_cpu, strict=True)
        for token in here.keys() & there.keys()
    ]
    print(f"{len(differences)} log probabilities differ by at most {max(differences):.6f}")
    assert len(differences) > 15 * len(on_cpu)
    assert max(differences) < TOLERANCE[kind]


def test_a_person_gets_an_answer(browser: Browser, web_bundle: Path):
    host = Host(web_bundle)
    try:
        page = browser.new_context().new_page()
        page.goto(host.url)
        page.get_by_role("button", name=f"Load {web_bundle.name}").click()
        wait_until_ready(page)
        page.get_by_role("button", name="Settings", exact=True).click()
        dialog = page.get_by_role("dialog", name="Settings for this chat")
        expect(dialog).to_contain_text("temperature 0.7, top P 0.9, min P 0.05")
        dialog.get_by_label("Temperature").fill("0")
        dialog.get_by_label("Longest answer").fill("16")
        dialog.get_by_role("button", name="Save").click()
        assert "Shakespeare" in ask(page, "Who wrote Romeo and Juliet?")
        page.context.close()
    finally:
        host.stop()
