"""npm's WebLLM runs our bundle as it lies in its folder: the weights, configuration and library are MLC's."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser import bundle_script, serving
from tests.end_to_end.conftest import Host
from tests.end_to_end.test_chat import SLOW_GPU_MS

PAGE = (
    '<!doctype html><link rel="icon" href="data:,"><script type="module" src="web_llm.js"></script>'
)

# Sampled, so that it goes through the library's softmax, sort and draw.
REQUEST = {
    "messages": [{"role": "user", "content": "What is 38 + 47?"}],
    "temperature": 1,
    "top_p": 1,
    "seed": 3,
    "max_tokens": 16,
}


def test_web_llm_answers_with_our_bundle(
    browser: Browser, start_host: Callable[[], Host], tmp_path: Path
):
    bundle_script(Path(__file__).with_name("web_llm.mjs"), tmp_path / "web_llm.js")
    (tmp_path / "index.html").write_text(PAGE)
    host = start_host()
    with serving(tmp_path) as url:
        page = browser.new_context().new_page()
        page.set_default_timeout(SLOW_GPU_MS)
        page.goto(url)
        page.wait_for_function("globalThis.ready === true")
        bundle = f"{host.url}bundles/pocket-q4f32_1/"
        choice = page.evaluate(
            "([bundle, request]) => askWebLLM(bundle, request)", [bundle, REQUEST]
        )
        page.context.close()
    assert "85" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
