"""Loading, settings, failures, and the page for every eye, hand and screen."""

from pathlib import Path

from playwright.sync_api import expect

from tests.page.conftest import BIG, POCKET, ROOT, OpenChat

LOST = {"code": "device_lost", "message": "The GPU went away.", "remedy": "Load the model again."}
NO_WEBGPU = {
    "code": "webgpu_unavailable",
    "message": "This browser has no WebGPU.",
    "remedy": "Use another browser.",
}


def test_settings_are_checked_and_sent(open_chat: OpenChat):
    chat = open_chat()
    chat.open_settings()
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_label("Temperature").fill("5")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Temperature").fill("0.5")
    dialog.get_by_label("Seed").fill("7")
    dialog.get_by_label("System prompt").fill("Be brief.")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    chat.ask("Hello")
    request = chat.requests()[0]
    assert (request["temperature"], request["seed"]) == (0.5, 7)
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}


def test_loading_shows_bytes_and_stage(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.expect_engine("loading")
    event = {"kind": "progress", "stage": "download", "loadedBytes": 1_200_000}
    chat.engine("emit", {**event, "totalBytes": 2_400_000, "bytesPerSecond": 3_100_000})
    card = chat.page.get_by_role("region", name="Model", exact=True)
    expect(card.get_by_role("progressbar")).to_be_visible()
    expect(card).to_contain_text("1.2")
    expect(card).to_contain_text("2.4 MB")
    chat.engine("finishLoad")
    chat.expect_engine("ready")


def test_big_model_waits_for_consent(open_chat: OpenChat):
    chat = open_chat(bundles=(BIG,), ready=False)
    expect(chat.page.get_by_role("region", name="Model", exact=True)).to_contain_text("1.2 GB")
    assert chat.page.evaluate("fake.engine.loads.length") == 0


def test_failed_answer_says_why_and_what_to_do(open_chat: OpenChat):
    chat = open_chat({"answers": [LOST, "Better now."]})
    chat.send("Hello")
    expect(chat.answers.last).to_contain_text(LOST["message"])
    expect(chat.answers.last).to_contain_text(LOST["remedy"])
    chat.page.get_by_role("button", name="Try again").or_(
        chat.page.get_by_role("button", name="Regenerate")
    ).first.click()
    expect(chat.answers.last).to_contain_text("Better now.")


def test_missing_webgpu_names_browsers_and_offers_another_try(open_chat: OpenChat):
    chat = open_chat({"loadProblems": [NO_WEBGPU]}, ready=False)
    chat.expect_engine("error")
    card = chat.page.get_by_role("region", name="Model", exact=True)
    expect(card).to_contain_text("no WebGPU")
    expect(card).to_contain_text("Firefox")
    card.get_by_role("button", name="Try again").click()
    chat.expect_engine("ready")


def test_keyboard_alone(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.box.focus()
    chat.page.keyboard.type("One")
    chat.page.keyboard.press("Shift+Enter")
    chat.page.keyboard.type("Two")
    expect(chat.box).to_have_value("One\nTwo")
    chat.page.keyboard.press("Enter")
    chat.expect_engine("generating")
    chat.page.keyboard.press("Escape")
    chat.expect_engine("ready")
    expect(chat.box).to_be_focused()


def test_no_sideways_scrolling_on_a_narrow_phone(open_chat: OpenChat):
    chat = open_chat(
        {"answers": ["word " * 60 + "x" * 300]}, viewport={"width": 360, "height": 740}
    )
    chat.ask("A long question " * 10)
    assert chat.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_icons_that_the_page_names_exist():
    static = Path(ROOT / "web/static")
    for source in ("page.html", "manifest.webmanifest"):
        text = (static / source).read_text()
        for name in ("icon.svg", "icon-192.png", "icon-512.png"):
            assert name not in text or (static / name).exists(), f"{source} names {name}"


def test_the_only_bundle_is_chosen(open_chat: OpenChat):
    chat = open_chat(bundles=(POCKET,))
    expect(chat.page.locator("#model-button")).to_contain_text("pocket-q4f16_1")


def test_the_notice_of_a_software_gpu_covers_nothing(open_chat: OpenChat):
    chat = open_chat({"isSoftware": True})
    chat.ask("Hello " * 200)
    notice = chat.page.locator(".notice")
    expect(notice).to_contain_text("software WebGPU")
    box = notice.bounding_box()
    top = chat.page.evaluate("document.querySelector('#scroller').getBoundingClientRect().top")
    assert box
    assert box["y"] + box["height"] <= top
    notice.get_by_role("button").click()
    expect(notice).to_have_count(0)


def test_tab_reaches_every_control(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    reached = set()
    for _ in range(40):
        chat.page.keyboard.press("Tab")
        reached.add(
            chat.page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? "
                "document.activeElement.textContent.trim()"
            )
        )
    wanted = {"Message", "New chat", "Settings", "Options for Hello", "Copy answer", "Regenerate"}
    assert wanted <= reached
