"""What people see where they look for it: nothing cut, covered, out of line or jumping."""

import functools

import pytest
from playwright.sync_api import Locator, expect

from tests.page import states
from tests.page.conftest import OpenChat

PHONE = {"width": 360, "height": 740}
TABLET = {"width": 768, "height": 1024}


def box(of: Locator) -> dict[str, float]:
    found = of.bounding_box()
    assert found
    return {**found, "middle": found["y"] + found["height"] / 2}


def test_messages_stand_above_the_message_box(open_chat: OpenChat):
    chat = states.many_messages(open_chat)
    composer, answer = box(chat.page.locator("#composer")), box(chat.texts.last)
    assert answer["x"] == pytest.approx(composer["x"], abs=0.5)
    assert answer["width"] == pytest.approx(composer["width"], abs=1)


def test_an_answer_stays_in_its_place_once_it_is_complete(open_chat: OpenChat):
    chat = states.answering(open_chat)
    before = box(chat.texts.last)
    chat.engine("finish")
    expect(chat.page.get_by_role("button", name="Edit message")).to_be_visible()
    assert box(chat.texts.last)["y"] == before["y"]


@pytest.mark.parametrize("touch", [False, True])
def test_earlier_messages_stay_in_their_places_meanwhile(open_chat: OpenChat, touch: bool):
    chat = open_chat({"manualAnswer": True}, has_touch=touch, is_mobile=touch)
    places = []
    for _ in range(3):
        chat.send("Story?")
        chat.engine("push", "Once.")
        chat.expect_engine("generating")
        expect(chat.texts.last).to_have_text("Once.")
        first, second = (box(message)["y"] for message in (chat.texts.first, chat.texts.nth(1)))
        places.append(second - first)
        chat.engine("finish")
        chat.expect_engine("ready")
        first, second = (box(message)["y"] for message in (chat.texts.first, chat.texts.nth(1)))
        places.append(second - first)
    # Earlier messages stand closer to each other than the last two.
    assert places[0] == places[1]
    assert len(set(places[2:])) == 1


def test_the_model_in_use_is_in_line_with_its_button(open_chat: OpenChat):
    chat = states.models(open_chat)
    badge = chat.page.get_by_role("dialog").get_by_text("In use")
    delete = chat.page.get_by_role("button", name="Delete from this device: pocket-q4f16_1")
    assert box(badge)["middle"] == pytest.approx(box(delete)["middle"], abs=0.5)
    # Stretched, its words would be at its upper end.
    assert box(badge)["height"] < box(delete)["height"]


@pytest.mark.parametrize("viewport", [PHONE, TABLET])
def test_what_a_model_offers_is_in_one_row(open_chat: OpenChat, viewport: dict[str, int]):
    chat = states.not_loaded(functools.partial(open_chat, viewport=viewport))
    card = chat.page.get_by_role("region", name="Model", exact=True)
    other, load = (box(button) for button in card.get_by_role("button").all())
    assert other["middle"] == pytest.approx(load["middle"], abs=0.5)


@pytest.mark.parametrize("viewport", [PHONE, TABLET, {"width": 1440, "height": 700}])
def test_settings_are_saved_without_scrolling(open_chat: OpenChat, viewport: dict[str, int]):
    chat = states.settings(functools.partial(open_chat, viewport=viewport))
    dialog = chat.page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Save")).to_be_in_viewport(ratio=1)
    # What is typed into isn't behind the buttons.
    dialog.get_by_label("Long conversations").focus()
    last = box(dialog.get_by_label("Long conversations"))
    assert last["y"] + last["height"] <= box(dialog.get_by_role("button", name="Save"))["y"]


def test_the_welcome_begins_at_its_beginning(open_chat: OpenChat):
    chat = states.key_wanted(functools.partial(open_chat, viewport={"width": 360, "height": 560}))
    expect(chat.page.get_by_role("heading", name="What would you like")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("reach", [states.empty, states.loading, states.load_failed])
def test_a_phone_shows_the_whole_name_of_the_model(open_chat: OpenChat, reach: states.Reach):
    chat = reach(functools.partial(open_chat, viewport=PHONE))
    name = chat.page.locator("#model-name")
    assert name.evaluate("name => name.scrollWidth <= name.clientWidth")
    expect(chat.page.locator("#model-state")).to_be_in_viewport(ratio=1)


def test_a_table_on_a_phone_is_wider_than_a_word_a_line(open_chat: OpenChat):
    chat = states.wide_table(functools.partial(open_chat, viewport=PHONE))
    cell = chat.texts.last.get_by_role("cell", name="every branch")
    assert box(cell)["height"] < 120
    table = chat.texts.last.get_by_role("group", name="Table")
    assert table.evaluate("table => table.scrollWidth > table.clientWidth")
