"""The page around the conversation: keyboard and focus, sidebar, theme, notices, offline hints."""

from playwright.sync_api import expect

from tests.page.conftest import OpenChat
from tests.page.test_conversations import choose

PHONE = {"width": 390, "height": 800}


def test_enter_belongs_to_an_input_method_while_it_composes(open_chat: OpenChat):
    chat = open_chat()
    chat.box.fill("かな")
    composing = "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true })"
    chat.box.evaluate(f"box => box.dispatchEvent({composing})")
    expect(chat.box).to_have_value("かな")
    chat.box.press("Enter")
    expect(chat.box).to_have_value("")
    expect(chat.texts.first).to_have_text("かな")


def test_blank_message_is_not_sent(open_chat: OpenChat):
    chat = open_chat()
    for text in ("", "  \n "):
        chat.box.fill(text)
        expect(chat.send_button).to_have_attribute("aria-disabled", "true")
        chat.box.press("Enter")
        chat.send_button.click(force=True)
    expect(chat.questions).to_have_count(0)
    chat.box.fill("  Hello \n")
    expect(chat.send_button).to_have_attribute("aria-disabled", "false")
    chat.box.press("Enter")
    # The answer's place is there before its request is made.
    expect(chat.page.get_by_role("button", name="Copy answer")).to_have_count(1)
    assert chat.requests()[0]["messages"][0]["content"] == "Hello"


def test_box_grows_with_its_text_and_shrinks_when_it_is_sent(open_chat: OpenChat):
    chat = open_chat()
    height = "box => box.clientHeight"
    before = chat.box.evaluate(height)
    chat.box.fill("a\nb\nc")
    assert chat.box.evaluate(height) > 1.5 * before
    chat.box.press("Enter")
    expect(chat.box).to_have_value("")
    assert chat.box.evaluate(height) == before


def test_nothing_is_sent_while_an_answer_is_written(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("First")
    chat.box.press("Enter")
    chat.expect_engine("generating")
    expect(chat.send_button).to_be_hidden()
    chat.box.fill("Second")
    chat.box.press("Enter")
    expect(chat.box).to_have_value("Second")
    chat.engine("finish")
    chat.expect_engine("ready")
    expect(chat.stop_button).to_be_hidden()
    expect(chat.questions).to_have_count(1)
    expect(chat.box).to_have_value("Second")
    chat.send_button.click()
    chat.expect_engine("generating")
    # The button that was clicked is gone: the focus must be somewhere.
    expect(chat.box).to_be_focused()


def test_escape_closes_what_is_in_front_first(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("First")
    chat.box.press("Enter")
    chat.expect_engine("generating")
    chat.open_settings()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    chat.open_menu("First")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("button", name="Rename")).to_be_hidden()
    chat.expect_engine("generating")
    chat.page.keyboard.press("Escape")
    chat.expect_engine("ready")
    expect(chat.answers.last).to_contain_text("Stopped before the first word.")


def test_stopping_is_announced(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("First")
    chat.box.press("Enter")
    chat.expect_engine("generating")
    chat.stop_button.click()
    expect(chat.page.locator("#announcer")).to_have_text("Stopped.")


def test_long_answer_is_announced_by_its_beginning(open_chat: OpenChat):
    chat = open_chat({"answers": ["word " * 1000]})
    chat.ask("Write.")
    expect(chat.page.locator("#announcer")).to_contain_text("… and more.")
    assert len(chat.page.locator("#announcer").inner_text()) < 1600


def test_skip_link_leads_to_the_box_of_the_same_chat(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    chat.page.get_by_role("link", name="Skip to the message box").focus()
    chat.page.keyboard.press("Enter")
    expect(chat.box).to_be_focused()
    expect(chat.questions).to_have_count(1)
    chat.ask("Again")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Hello"])


def test_example_is_asked(open_chat: OpenChat):
    chat = open_chat()
    chat.page.get_by_role("list", name="Examples").get_by_role("button").first.click()
    expect(chat.answers).to_have_count(1)
    expect(chat.page.locator("#welcome")).to_be_hidden()
    expect(chat.box).to_be_focused()
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.page.locator("#welcome")).to_be_visible()


def test_conversation_has_an_address(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    address = chat.address
    assert address.split("#")[1]
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.questions).to_have_count(0)
    expect(chat.box).to_be_focused()
    chat.page.go_back()
    expect(chat.questions).to_have_count(1)
    chat.page.goto(address.split("#")[0] + "#unknown")
    expect(chat.questions).to_have_count(0)
    chat.page.goto(address)
    expect(chat.questions).to_have_count(1)


def test_renaming(open_chat: OpenChat):
    chat = open_chat()
    chat.ask("Hello")
    title = chat.page.get_by_role("dialog").get_by_role("textbox")
    for key in ("Escape", "Cancel"):
        choose(chat, "Hello", "Rename")
        expect(title).to_have_value("Hello")
        expect(title).to_be_focused()
        title.fill("Other")
        if key == "Escape":
            title.press(key)
        else:
            chat.page.get_by_role("dialog").get_by_role("button", name=key).click()
        expect(title).to_be_hidden()
    expect(chat.conversations.get_by_role("link")).to_have_text(["Hello"])
    choose(chat, "Hello", "Rename")
    title.fill("   ")
    title.press("Enter")
    expect(title).to_be_visible()
    title.fill("  Mine ")
    title.press("Enter")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Mine"])
    expect(chat.page).to_have_title("Mine · mlc-edge")
    # A chosen title stays, whatever is asked or edited.
    chat.questions.last.get_by_role("button", name="Edit message").click()
    box = chat.page.get_by_role("textbox", name="Edit message")
    box.fill("Other")
    box.press("Enter")
    expect(chat.texts.first).to_have_text("Other")
    expect(chat.page.get_by_role("button", name="Copy answer")).to_be_visible()
    chat.reload()
    expect(chat.texts.first).to_have_text("Other")
    expect(chat.conversations.get_by_role("link")).to_have_text(["Mine"])


def test_theme_is_the_systems_until_one_is_chosen(open_chat: OpenChat):
    chat = open_chat(color_scheme="dark")
    html = chat.page.locator("html")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = chat.page.evaluate(background)
    expect(html).not_to_have_attribute("data-theme")
    chat.page.get_by_role("button", name="Theme: system").click()
    expect(html).to_have_attribute("data-theme", "light")
    assert chat.page.evaluate(background) != dark
    chat.page.get_by_role("button", name="Theme: light").click()
    expect(html).to_have_attribute("data-theme", "dark")
    chat.page.reload()
    expect(html).to_have_attribute("data-theme", "dark")
    chat.page.get_by_role("button", name="Theme: dark").click()
    expect(html).not_to_have_attribute("data-theme")
    chat.page.reload()
    expect(chat.page.get_by_role("button", name="Theme: system")).to_be_visible()


def test_new_version_is_offered_not_forced(open_chat: OpenChat):
    chat = open_chat()
    chat.page.evaluate("fake.announceUpdate()")
    chat.page.evaluate("fake.announceUpdate()")
    notice = chat.page.locator(".notice")
    expect(notice).to_have_count(1)
    expect(notice).to_contain_text("A new version of this page is ready.")
    assert chat.page.evaluate("fake.updates") == 0
    notice.get_by_role("button", name="Reload").click()
    assert chat.page.evaluate("fake.updates") == 1
    notice.get_by_role("button", name="Dismiss").focus()
    chat.page.keyboard.press("Enter")
    expect(notice).to_have_count(0)
    expect(chat.box).to_be_focused()


def test_toast_passes_but_not_from_under_the_focus(open_chat: OpenChat):
    chat = open_chat()
    chat.page.clock.install(time=0)
    chat.ask("Precious")
    choose(chat, "Precious", "Delete")
    undo = chat.page.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    # From now on no time passes but what the test says.
    chat.page.clock.pause_at(600)
    expect(undo).to_be_visible()
    chat.box.focus()
    chat.page.clock.fast_forward(19_000)
    expect(undo).to_be_visible()
    chat.page.clock.fast_forward(3_000)
    expect(undo).to_have_count(0)


def test_state_of_the_network_is_told(open_chat: OpenChat):
    chat = open_chat({"stored": ["pocket-q4f16_1"], "persisted": True})
    hint = chat.page.locator("#offline-state")
    expect(hint).to_have_text("Ready for offline use.")
    chat.page.context.set_offline(True)
    expect(hint).to_have_text("You are offline. Ready for offline use.")
    chat.page.context.set_offline(False)
    expect(hint).to_have_text("Ready for offline use.")
    chat.open_models()
    expect(chat.page.get_by_role("dialog")).to_contain_text("keeps it until you delete it")


def test_page_that_bypasses_the_service_worker_says_so(open_chat: OpenChat):
    chat = open_chat({"stored": ["pocket-q4f16_1"], "uncontrolled": True})
    expect(chat.page.locator("#offline-state")).to_have_text(
        "This page doesn't open offline for now.".replace("'", chr(0x2019))
    )


def test_page_is_usable_while_the_service_worker_is_awaited(open_chat: OpenChat):
    """As on a first visit where its script doesn't come."""
    chat = open_chat({"hangingRegistration": True}, ready=False)
    expect(chat.page.locator("#examples").get_by_role("button")).not_to_have_count(0)
    chat.open_settings()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.questions).to_have_count(1)
    expect(chat.conversations.get_by_role("link")).to_have_count(1)
    # The engine's script would not be kept.
    assert chat.page.evaluate("fake.engine.loads") == []
    chat.page.evaluate("fake.register()")
    chat.expect_engine("ready")
    expect(chat.page.get_by_role("button", name="Copy answer")).to_have_count(1)


def test_drawer_on_a_phone(open_chat: OpenChat):
    chat = open_chat(viewport=PHONE)
    chat.ask("Hello")
    opener = chat.page.get_by_role("button", name="Conversations", exact=True)
    new_chat = chat.page.get_by_role("button", name="New chat")
    sidebar, main = chat.page.locator("#sidebar"), chat.page.locator("main")
    inert = "element => element.inert"
    assert sidebar.evaluate(inert) and not main.evaluate(inert)
    opener.click()
    expect(new_chat).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "true")
    assert not sidebar.evaluate(inert) and main.evaluate(inert)
    chat.page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.click()
    new_chat.click()
    expect(chat.questions).to_have_count(0)
    expect(chat.box).to_be_focused()
    opener.click()
    chat.conversations.get_by_role("link", name="Hello").click()
    expect(chat.questions).to_have_count(1)
    assert sidebar.evaluate(inert) and not main.evaluate(inert)
    # On a wide screen it is a column again.
    chat.page.set_viewport_size({"width": 1200, "height": 800})
    expect(new_chat).to_be_visible()
    expect(sidebar).to_have_js_property("inert", False)


def test_reading_back_is_not_disturbed_by_a_growing_answer(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    scroller, jump = chat.page.locator("#scroller"), chat.page.get_by_role("button", name="Latest")
    at_end = """() => {
      const { scrollHeight, scrollTop, clientHeight } = document.querySelector("#scroller");
      return scrollHeight - scrollTop - clientHeight < 2;
    }"""
    chat.box.fill("Write.")
    chat.box.press("Enter")
    chat.engine("push", "line\n\n" * 60)
    expect(chat.texts.last.locator("p")).to_have_count(60)
    expect(jump).to_be_hidden()
    chat.page.wait_for_function(at_end)
    scroller.evaluate("s => { s.scrollTop = 100; }")
    expect(jump).to_be_visible()
    chat.engine("push", "more\n\n" * 20)
    expect(chat.texts.last.locator("p")).to_have_count(80)
    assert scroller.evaluate("s => s.scrollTop") == 100
    jump.click()
    expect(jump).to_be_hidden()
    expect(chat.box).to_be_focused()
    chat.engine("push", "and more\n\n" * 20)
    expect(chat.texts.last.locator("p")).to_have_count(100)
    chat.page.wait_for_function(at_end)


def test_menu_near_the_edge_stays_on_the_screen(open_chat: OpenChat):
    chat = open_chat(viewport={"width": 1000, "height": 300})
    for question in ("One", "Two", "Three"):
        chat.page.get_by_role("button", name="New chat").click()
        expect(chat.questions).to_have_count(0)
        chat.ask(question)
    chat.open_menu("One")
    box = chat.page.locator(".menu:popover-open").bounding_box()
    assert box and box["y"] >= 0 and box["y"] + box["height"] <= 300
