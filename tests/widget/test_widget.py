"""What people do with the widget, and what sites see of that."""

from playwright.sync_api import expect

from tests.widget.conftest import OpenWidget


def test_a_person_opens_it_agrees_to_the_download_and_asks(open_widget: OpenWidget):
    widget = open_widget({"answers": ["**Hello**!"]})
    widget.open()
    expect(widget.element.get_by_role("dialog", name="Chat")).to_be_visible()
    widget.expect_state("consent")
    expect(widget.card).to_contain_text("It downloads 2.4 MB once")
    widget.button("Download 2.4 MB").click()
    widget.expect_state("ready")
    widget.ask("Hi")
    expect(widget.answers.locator("strong")).to_have_text("Hello")
    states = [detail["state"] for detail in widget.events("state")]
    assert states == ["checking", "consent", "loading", "ready", "answering", "ready"]
    assert widget.events("message") == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "**Hello**!"},
    ]
    assert widget.run("chat.messages") == widget.events("message")
    expect(widget.announcer).to_have_text("Assistant: **Hello**!")


def test_nothing_is_fetched_before_it_is_opened(open_widget: OpenWidget, shop_url: str):
    widget = open_widget(count=2)
    expect(widget.open_button).to_be_visible()
    assert [request.url.removeprefix(shop_url) for request in widget.requests] == [
        "",
        "shop.css",
        "dist/widget.js",
    ]
    widget.run("chat.open = true")
    widget.expect_state("consent")
    later = [request.url.removeprefix(shop_url) for request in widget.requests[3:]]
    assert later == ["dist/widget-panel.js"]


def test_a_download_is_paused_goes_on_and_is_cancelled(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 1_200_000_000, "manualLoad": True})
    widget.open()
    widget.button("Download 1.2 GB").click()
    widget.progress("download", 300_000_000, 1_200_000_000)
    expect(widget.card.get_by_role("progressbar")).to_have_attribute("value", "0.25")
    widget.button("Pause").click()
    widget.expect_state("paused")
    expect(widget.card).to_contain_text("300 MB of 1.2 GB")
    widget.button("Resume").click()
    widget.expect_state("loading")
    widget.progress("download", 600_000_000, 1_200_000_000)
    expect(widget.card.get_by_role("progressbar")).to_have_attribute("value", "0.5")
    widget.button("Cancel").click()
    widget.expect_state("consent")
    widget.button("Download 1.2 GB").click()
    widget.expect_state("loading")
    widget.engine("finishLoad")
    widget.expect_state("ready")
    loaded = [progress["loadedBytes"] for progress in widget.events("progress")]
    assert loaded[0] == 300_000_000 and loaded[-1] == 600_000_000
    assert widget.events("ready") == [{"host": None}]
    assert len(widget.page.evaluate("widgetEngines.at(-1).loads")) == 3


def test_a_stored_model_is_not_asked_for(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.expect_state("ready")
    assert widget.events("consent") == []


def test_a_question_waits_for_the_download(open_widget: OpenWidget):
    widget = open_widget({"answers": ["Hello!"]})
    widget.open()
    widget.expect_state("consent")
    widget.box.fill("Hi")
    widget.box.press("Enter")
    expect(widget.answers).to_contain_text("Start the download to get the answer.")
    widget.button("Download 2.4 MB").click()
    expect(widget.answers).to_contain_text("Hello!")


def test_escape_stops_an_answer_then_closes_and_the_focus_goes_back(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.open()
    widget.expect_state("ready")
    expect(widget.box).to_be_focused()
    widget.box.fill("Hi")
    widget.box.press("Enter")
    widget.expect_state("answering")
    widget.page.keyboard.press("Escape")
    expect(widget.answers).to_contain_text("Stopped before the first word.")
    expect(widget.frame).to_be_visible()
    expect(widget.announcer).to_have_text("Stopped.")
    widget.page.keyboard.press("Escape")
    expect(widget.frame).to_be_hidden()
    expect(widget.open_button).to_be_focused()
    widget.page.keyboard.press("Enter")
    expect(widget.frame).to_be_visible()
    expect(widget.questions.locator(".body")).to_have_text(["Hi"])
    expect(widget.box).to_be_focused()


def test_only_finished_answers_are_announced(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0, "manualAnswer": True})
    widget.open()
    widget.expect_state("ready")
    expect(widget.announcer).to_have_text("The assistant is ready.")
    widget.box.fill("Hi")
    widget.box.press("Enter")
    widget.engine("push", "One ")
    expect(widget.answers).to_contain_text("One")
    expect(widget.log).to_have_attribute("aria-live", "off")
    expect(widget.announcer).to_have_text("The assistant is ready.")
    widget.engine("push", "two.")
    widget.engine("finish")
    expect(widget.announcer).to_have_text("Assistant: One two.")


def test_widgets_of_one_model_share_an_engine(open_widget: OpenWidget):
    widget = open_widget(count=2)
    first, second = (widget.page.locator("mlc-chat").nth(index) for index in (0, 1))
    for chat in (first, second):
        # They lie on one another.
        chat.evaluate("chat => { chat.open = true; }")
    widget.expect_state("consent")
    first.get_by_role("button", name="Download 2.4 MB").dispatch_event("click")
    for chat in (first, second):
        expect(chat.locator(".frame")).to_have_attribute("data-state", "ready")
    assert widget.page.evaluate("widgetEngines.map(({ loads }) => loads.length)") == [1]
    first.evaluate("chat => chat.remove()")
    widget.run("chat.send('Hi')")
    expect(widget.answers).to_contain_text("Hello!")
    assert widget.page.evaluate("widgetEngines[0].disposed") is False
    widget.run("chat.remove()")
    assert widget.page.evaluate("widgetEngines[0].disposed") is True


def test_a_widget_that_is_moved_keeps_its_conversation(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.ask("Hi")
    widget.run("chat.ownerDocument.body.prepend(chat)")
    expect(widget.answers).to_have_count(1)
    assert widget.page.evaluate("[widgetEngines.length, widgetEngines[0].disposed]") == [1, False]


def test_it_can_be_opened_again_after_a_failure_to_load(open_widget: OpenWidget):
    failures = iter([True])
    widget = open_widget(
        routes={
            "**/widget-panel*": lambda route: (
                route.abort() if next(failures, False) else route.continue_()
            )
        }
    )
    widget.open()
    widget.button("Try again").click()
    widget.expect_state("consent")


def test_what_was_offline_goes_on_once_there_is_a_network(open_widget: OpenWidget):
    problem = {"code": "network_error", "message": "Not fetched.", "remedy": "Try again."}
    widget = open_widget({"missingBytes": 0, "loadProblems": [problem]})
    widget.open()
    widget.expect_state("error")
    widget.page.evaluate("dispatchEvent(new Event('online'))")
    widget.expect_state("ready")


def test_an_answer_that_lost_its_model_is_redone(open_widget: OpenWidget):
    problem = {"code": "device_lost", "message": "Gone.", "remedy": "Try again."}
    widget = open_widget({"missingBytes": 0, "answers": [problem, "Back."]})
    widget.open()
    widget.box.fill("Hi")
    widget.box.press("Enter")
    expect(widget.answers).to_contain_text("The GPU stopped working.")
    widget.button("Try again").click()
    expect(widget.answers).to_contain_text("Back.")
    assert [problem["code"] for problem in widget.events("error")] == ["device_lost"]
    assert len(widget.page.evaluate("widgetEngines[0].loads")) == 2


def test_a_question_that_is_edited_takes_the_place_of_the_former(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.ask("One")
    widget.ask("Two")
    widget.questions.last.hover()
    widget.questions.last.get_by_role("button", name="Edit message").click()
    box = widget.questions.last.get_by_role("textbox", name="Edit message")
    box.fill("Three")
    box.press("Enter")
    expect(widget.questions.locator(".body")).to_have_text(["One", "Three"])
    asked = [turn["content"] for turn in widget.asked_of_engine()[-1]["messages"]]
    assert asked[::2] == ["One", "Three"]


def test_a_long_conversation_loses_its_oldest_turns_and_goes_on(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.expect_state("ready")
    loads = widget.page.evaluate("widgetEngines[0].loads")
    assert [load["policy"] for load in loads] == ["truncate-oldest"]


def test_a_long_conversation_begins_anew(open_widget: OpenWidget):
    widget = open_widget({"missingBytes": 0})
    widget.open()
    widget.ask("One")
    widget.ask("Two")
    widget.button("New conversation").click()
    expect(widget.questions).to_have_count(0)
    expect(widget.element.get_by_text("How can I help?")).to_be_visible()
    expect(widget.box).to_be_focused()
    assert widget.run("chat.messages") == []
