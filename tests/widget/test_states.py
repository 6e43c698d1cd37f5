"""Each state that people can meet: what it says, and that axe finds nothing wrong with it.

With MLC_EDGE_SHOTS=FOLDER, pictures of them all are written there, at two widths, light and dark.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.widget.conftest import OpenWidget, Widget

NO_GPU = {
    "code": "webgpu_unavailable",
    "message": "This browser has no WebGPU.",
    "remedy": "Use another.",
}
BROKEN = {
    "code": "integrity_error",
    "message": "params_shard_0.bin is damaged.",
    "remedy": "Try again.",
}
ANSWER = """Here is how:

1. Open the **settings**.
2. Choose *Export*.

```python
print("done")
```

| Format | Size |
|--------|-----:|
| JSON   | 12 kB |
"""
BIG = {"missingBytes": 1_200_000_000, "manualLoad": True}
SHOTS = os.environ.get("MLC_EDGE_SHOTS")
LOOKS = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
Reach = Callable[[OpenWidget], Widget]


def closed(open_widget: OpenWidget) -> Widget:
    widget = open_widget()
    expect(widget.open_button).to_be_visible()
    return widget


def closed_inline(open_widget: OpenWidget) -> Widget:
    widget = open_widget(inline=True)
    expect(widget.open_button).to_be_visible()
    return widget


def consent(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"missingBytes": 1_234_000_000})
    widget.open()
    expect(widget.button("Download 1.2 GB")).to_be_visible()
    return widget


def downloading(open_widget: OpenWidget) -> Widget:
    widget = open_widget(BIG)
    widget.open()
    widget.button("Download 1.2 GB").click()
    widget.progress("download", 300_000_000, 1_200_000_000)
    expect(widget.card).to_contain_text("300 MB of 1.2 GB")
    return widget


def paused(open_widget: OpenWidget) -> Widget:
    widget = downloading(open_widget)
    widget.button("Pause").click()
    expect(widget.button("Resume")).to_be_visible()
    return widget


def preparing(open_widget: OpenWidget) -> Widget:
    widget = open_widget(BIG)
    widget.open()
    widget.button("Download 1.2 GB").click()
    widget.engine(
        "emit",
        {
            "kind": "progress",
            "stage": "pipelines",
            "done": 3,
            "total": 12,
            "loadedBytes": 0,
            "totalBytes": 0,
        },
    )
    expect(widget.card).to_contain_text("Preparing the model")
    return widget


def ready(open_widget: OpenWidget) -> Widget:
    init = """addEventListener("DOMContentLoaded", () =>
      document.querySelector("mlc-chat").starters = ["What do you sell?", "Where is my parcel?"]);"""
    widget = open_widget({"missingBytes": 0}, init=init)
    widget.open()
    widget.expect_state("ready")
    expect(widget.button("Where is my parcel?")).to_be_visible()
    return widget


def answering(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.open()
    widget.box.fill("How do I export my data?")
    widget.box.press("Enter")
    widget.engine("push", "Open the **settings**, then")
    expect(widget.answers).to_contain_text("then")
    expect(widget.button("Stop")).to_be_visible()
    return widget


def answered(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"missingBytes": 0, "answers": [ANSWER]})
    widget.open()
    widget.ask("How do I export my data?")
    expect(widget.button("Regenerate")).to_be_visible()
    return widget


def answered_inline(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"missingBytes": 0, "answers": [ANSWER]}, inline=True)
    widget.open()
    widget.ask("How do I export my data?")
    return widget


def answered_in_arabic(open_widget: OpenWidget) -> Widget:
    answer = "مرحبًا! افتح **الإعدادات**، ثم اختر `Export`."
    widget = open_widget({"missingBytes": 0, "answers": [answer]}, lang="ar")
    widget.button("فتح المحادثة").click()
    box = widget.element.get_by_role("textbox", name="رسالة")
    box.fill("كيف أصدّر بياناتي؟")
    box.press("Enter")
    expect(widget.button("نسخ الإجابة")).to_be_visible()
    assert (
        widget.run("getComputedStyle(chat.shadowRoot.querySelector('.widget')).direction") == "rtl"
    )
    return widget


def failed(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"missingBytes": 0, "loadProblems": [BROKEN]})
    widget.open()
    expect(widget.card).to_contain_text("files can")
    expect(widget.button("Try again")).to_be_visible()
    return widget


def failed_answer(open_widget: OpenWidget) -> Widget:
    problem = {"code": "context_length_exceeded", "message": "Too long.", "remedy": "Shorten."}
    widget = open_widget({"missingBytes": 0, "answers": [problem]})
    widget.open()
    widget.box.fill("A long question")
    widget.box.press("Enter")
    expect(widget.answers).to_contain_text("too long for the model")
    return widget


def no_webgpu(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"misfits": {"pocket": NO_GPU}})
    widget.open()
    expect(widget.card).to_contain_text("run the assistant.")
    return widget


def elsewhere(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"misfits": {"pocket": NO_GPU}}, attributes='server="api/v1#small"')
    widget.run("(chat.messages = [{ role: 'user', content: 'Hi' }], null)")
    widget.open()
    expect(widget.element.get_by_role("button", name="Continue with 127.0.0.1")).to_be_visible()
    return widget


def offline(open_widget: OpenWidget) -> Widget:
    problem = {
        "code": "network_error",
        "message": "mlc-lock.json could not be fetched.",
        "remedy": "Try again.",
    }
    widget = open_widget({"misfits": {"pocket": problem}})
    widget.open()
    widget.expect_state("error")
    widget.page.context.set_offline(True)
    widget.button("Try again").click()
    expect(widget.card).to_contain_text("You are offline.")
    return widget


def recovering(open_widget: OpenWidget) -> Widget:
    widget = answering(open_widget)
    widget.engine("emit", {"kind": "device", "state": "lost", "reason": "destroyed"})
    expect(widget.element.locator(".toast")).to_contain_text("The GPU was reset")
    return widget


def storage_full(open_widget: OpenWidget) -> Widget:
    widget = ready(open_widget)
    widget.engine(
        "emit", {"kind": "storage", "state": "memory-only", "url": "x", "neededBytes": 262_000_000}
    )
    expect(widget.element.locator(".notice")).to_contain_text("no room to keep the model (262 MB)")
    return widget


def keeps_nothing(open_widget: OpenWidget) -> Widget:
    widget = open_widget({"keepsNothing": True})
    widget.open()
    expect(widget.card).to_contain_text("must be downloaded at each visit (2.4 MB)")
    expect(widget.card).not_to_contain_text("once")
    widget.button("Download 2.4 MB").click()
    widget.expect_state("ready")
    event = {"kind": "storage", "state": "memory-only", "url": "x", "neededBytes": 1_800}
    widget.engine("emit", {**event, "reason": "denied"})
    notice = widget.element.locator(".notice")
    expect(notice).to_contain_text("keeps nothing for this page: the model (2.4 MB)")
    return widget


def too_big_to_keep(open_widget: OpenWidget) -> Widget:
    full = {"code": "quota_exceeded", "message": "No room.", "remedy": "Delete something."}
    widget = open_widget({"shortOf": full})
    widget.open()
    expect(widget.card).to_contain_text("must be downloaded at each visit (2.4 MB)")
    return widget


def not_reached(open_widget: OpenWidget) -> Widget:
    def refuse(route: Route) -> None:
        route.abort()

    widget = open_widget(routes={"**/widget-panel*": refuse})
    widget.open()
    expect(widget.element.get_by_text("The chat could not be loaded.")).to_be_visible()
    return widget


STATES: list[Reach] = [
    closed,
    closed_inline,
    consent,
    downloading,
    paused,
    preparing,
    ready,
    answering,
    answered,
    answered_inline,
    answered_in_arabic,
    failed,
    failed_answer,
    no_webgpu,
    elsewhere,
    offline,
    recovering,
    storage_full,
    keeps_nothing,
    too_big_to_keep,
    not_reached,
]


@pytest.mark.parametrize("reach", STATES, ids=lambda reach: reach.__name__)
def test_axe_finds_nothing(open_widget: OpenWidget, reach: Reach):
    widget = reach(open_widget)
    for width, scheme in LOOKS if SHOTS else LOOKS[:2]:
        widget.page.set_viewport_size({"width": width, "height": 844 if width == 390 else 800})
        widget.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        if SHOTS:
            path = Path(SHOTS) / f"{reach.__name__}-{width}-{scheme}.png"
            widget.page.screenshot(path=path)
        assert widget.axe() == []
        assert widget.page.evaluate("document.documentElement.scrollWidth") <= width
