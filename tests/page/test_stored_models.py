"""What this device keeps of models: listed, deleted, said aloud when it doesn't work out."""

from playwright.sync_api import Locator, expect

from tests.page.conftest import BIG, POCKET, Chat, OpenChat
from tests.page.test_models import card, dialog, item, loads, use

OLD = {**POCKET, "id": "old-q4f16_1", "url": "bundles/old-q4f16_1/"}
INDEX = "**/bundles/index.json"


def notices(chat: Chat) -> Locator:
    return chat.page.locator("#notices")


def delete_button(chat: Chat, name: str) -> Locator:
    return dialog(chat).get_by_role("button", name=f"Delete from this device: {name}")


def storage_event(chat: Chat, state: str, **more: object) -> None:
    chat.engine("emit", {"kind": "storage", "state": state, **more})


def deleted(chat: Chat) -> list[str]:
    return chat.page.evaluate(
        "fake.engine.storage.deleted.map((url) => url.split('/').at(-2) ?? url)"
    )


def test_unfinished_download_is_listed_and_deleted(open_chat: OpenChat):
    chat = open_chat({"partial": {"big-q4f16_1": 600_000}}, bundles=(POCKET, BIG))
    chat.open_models()
    expect(item(chat, BIG)).to_contain_text("0.6 of 2.4 MB on this device")
    expect(item(chat, POCKET)).not_to_contain_text("on this device")
    delete_button(chat, BIG["id"]).click()
    expect(item(chat, BIG)).not_to_contain_text("on this device")
    expect(delete_button(chat, BIG["id"])).to_have_count(0)
    assert deleted(chat) == [BIG["id"]]


def test_models_that_the_host_has_no_more_are_listed_used_and_deleted(open_chat: OpenChat):
    chat = open_chat({"stored": ["old-q4f16_1"], "partial": {"half-q4f16_1": 100_000}})
    chat.open_models()
    half = {"id": "half-q4f16_1"}
    for bundle in (OLD, half):
        expect(item(chat, bundle)).to_contain_text("offer it any more")
    expect(item(chat, POCKET)).not_to_contain_text("offer it any more")
    delete_button(chat, half["id"]).click()
    expect(item(chat, half)).to_have_count(0)
    chat.page.keyboard.press("Escape")
    use(chat, OLD)
    chat.expect_engine("ready")
    assert loads(chat) == [POCKET["id"], OLD["id"]]
    chat.open_models()
    delete_button(chat, OLD["id"]).click()
    expect(item(chat, OLD)).to_have_count(0)
    assert deleted(chat) == [half["id"], OLD["id"]]


def test_files_that_belong_to_no_model_are_listed_and_deleted(open_chat: OpenChat):
    chat = open_chat({"leftoverBytes": 45_000_000})
    chat.open_models()
    expect(dialog(chat)).to_contain_text("45 MB that belong to no model")
    delete_button(chat, "leftover files").click()
    expect(dialog(chat)).not_to_contain_text("belong to no model")
    assert deleted(chat) == ["leftovers"]


def test_leftovers_that_stay_while_a_model_is_in_use_are_explained(open_chat: OpenChat):
    chat = open_chat({"leftoverBytes": 45_000_000, "modelsInUse": True})
    chat.open_models()
    delete_button(chat, "leftover files").click()
    expect(dialog(chat).get_by_role("status")).to_contain_text("a model is in use")
    expect(dialog(chat)).to_contain_text("45 MB that belong to no model")
    assert deleted(chat) == []
    chat.page.keyboard.press("Escape")
    chat.open_models()
    expect(dialog(chat)).not_to_contain_text("a model is in use")


def test_full_storage_is_said_once_a_load(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.expect_engine("loading")
    for megabytes in (32, 31):
        url = f"http://localhost/{megabytes}"
        storage_event(
            chat, "memory-only", url=url, neededBytes=megabytes * 1_000_000, reason="no-room"
        )
    expect(notices(chat)).to_contain_text("no room to keep this model (32 MB didn")
    expect(notices(chat).locator(".notice")).to_have_count(1)
    notices(chat).get_by_role("button", name="Models").click()
    expect(dialog(chat)).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.engine("finishLoad")
    chat.expect_engine("ready")
    expect(notices(chat)).to_contain_text("no room")


def test_refused_persistence_is_said(open_chat: OpenChat):
    chat = open_chat({"persistenceRefused": True}, bundles=(BIG,), ready=False)
    load = card(chat).get_by_role("button", name="Load big-q4f16_1")
    expect(notices(chat)).not_to_contain_text("may delete")
    load.click()
    expect(notices(chat)).to_contain_text("may delete stored models when its disk fills up")


def test_granted_persistence_needs_no_words(open_chat: OpenChat):
    chat = open_chat(bundles=(BIG,), ready=False)
    card(chat).get_by_role("button", name="Load big-q4f16_1").click()
    chat.expect_engine("ready")
    expect(notices(chat).locator(".notice")).to_have_count(0)


def test_damaged_file_is_said(open_chat: OpenChat):
    chat = open_chat()
    toasts = chat.page.get_by_role("region", name="Notifications")
    storage_event(chat, "damaged", url="http://localhost/a", source="cache")
    expect(toasts).to_contain_text("damaged on this device")
    storage_event(chat, "damaged", url="http://localhost/a", source="network")
    expect(toasts).to_contain_text("damaged on its way")


def test_small_new_version_is_downloaded_at_once_and_a_big_one_on_a_click(open_chat: OpenChat):
    chat = open_chat({"stored": ["pocket-q4f16_1"]})
    updated = "fake.engine.storage.updated.map((url) => url.split('/').at(-2))"
    url = chat.page.evaluate("new URL('bundles/pocket-q4f16_1/', document.baseURI).href")
    event = {"bundleUrl": url, "id": POCKET["id"]}
    storage_event(chat, "update-available", **event, neededBytes=2_000_000)
    toasts = chat.page.get_by_role("region", name="Notifications")
    expect(toasts).to_contain_text("The new version of pocket-q4f16_1 is here")
    assert chat.page.evaluate(updated) == [POCKET["id"]]
    storage_event(chat, "update-available", **event, neededBytes=1_200_000_000)
    expect(notices(chat)).to_contain_text("There is a new version of pocket-q4f16_1 (1.2 GB).")
    assert chat.page.evaluate(updated) == [POCKET["id"]]
    notices(chat).get_by_role("button", name="Download").click()
    expect(notices(chat).locator(".notice")).to_have_count(0)
    assert chat.page.evaluate(updated) == [POCKET["id"]] * 2


def answer_index(chat: Chat, answer: object) -> None:
    chat.page.unroute(INDEX)
    chat.page.route(INDEX, answer)


def test_list_of_models_as_last_seen_is_used_until_the_host_answers(open_chat: OpenChat):
    """Whatever it answers, or if it never does."""
    chat = open_chat({"stored": ["pocket-q4f16_1"]})
    answers = (
        lambda route: route.abort(),
        lambda route: route.fulfill(status=403),
        lambda route: route.fulfill(status=404),
        lambda route: route.fulfill(body="<h1>Accept our terms</h1>"),
        lambda route: route.fulfill(json={"terms": []}),
        lambda route: None,
    )
    for answer in answers:
        answer_index(chat, answer)
        chat.reload()
        expect(chat.page.locator("#model-name")).to_have_text(POCKET["id"])
    assert chat.page.locator("#notices .notice").count() == 0


def test_list_of_models_follows_the_host(open_chat: OpenChat):
    chat = open_chat(bundles=(POCKET, OLD))
    answer_index(chat, lambda route: route.fulfill(json={"bundles": [OLD]}))
    chat.reload()
    chat.open_models()
    expect(item(chat, POCKET)).to_have_count(0)
    expect(item(chat, OLD)).to_be_visible()


def test_stored_models_are_there_without_any_list(open_chat: OpenChat):
    chat = open_chat({"stored": ["old-q4f16_1"]})
    chat.page.evaluate("caches.delete('mlc-edge-documents-v1')")
    answer_index(chat, lambda route: route.abort())
    chat.reload()
    expect(chat.page.locator("#model-name")).to_have_text(OLD["id"])
