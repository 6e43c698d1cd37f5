"""Models: which is chosen, what loading shows, what can be done when it fails, what is deleted."""

from typing import Any

from playwright.sync_api import Locator, expect

from tests.page.conftest import BIG, POCKET, Chat, OpenChat

SECOND = {**POCKET, "id": "second-q4f16_1", "url": "bundles/second-q4f16_1/"}
BROKEN = {"code": "network_error", "message": "The download broke off.", "remedy": "Try once more."}
TOO_SMALL = {
    "code": "gpu_too_small",
    "message": "The GPU has too little memory.",
    "remedy": "Choose a smaller model.",
}
LOST = {"code": "device_lost", "message": "The GPU went away.", "remedy": "Try again."}


def card(chat: Chat) -> Locator:
    return chat.page.get_by_role("region", name="Model", exact=True)


def state(chat: Chat) -> Locator:
    return chat.page.locator("#model-state")


def dialog(chat: Chat) -> Locator:
    return chat.page.get_by_role("dialog", name="Models")


def item(chat: Chat, bundle: dict[str, Any]) -> Locator:
    heading = chat.page.get_by_role("heading", name=bundle["id"])
    return dialog(chat).get_by_role("listitem").filter(has=heading)


def use(chat: Chat, bundle: dict[str, Any]) -> None:
    chat.open_models()
    item(chat, bundle).get_by_role("button", name="Use this model").click()
    expect(dialog(chat)).to_be_hidden()


def loads(chat: Chat) -> list[str]:
    return chat.page.evaluate("fake.engine.loads.map(({ url }) => url.split('/').at(-2))")


def progress(chat: Chat, stage: str, **more: float) -> None:
    known = {"loadedBytes": 0, "totalBytes": 0, "bytesPerSecond": 0}
    chat.engine("emit", {"kind": "progress", "stage": stage, **known, **more})


def test_first_model_is_chosen_until_another_is(open_chat: OpenChat):
    chat = open_chat(bundles=(POCKET, SECOND))
    assert loads(chat) == [POCKET["id"]]
    use(chat, SECOND)
    chat.expect_engine("ready")
    expect(chat.page.locator("#model-name")).to_have_text(SECOND["id"])
    expect(state(chat)).to_have_text("Ready")
    # The one that was left is given up, unless other tabs have it.
    assert chat.page.evaluate("fake.engine.loads.every(({ replace }) => replace)")
    chat.reload()
    assert loads(chat) == [SECOND["id"]]
    # What the host has no more is not waited for.
    chat.page.evaluate("localStorage.setItem('mlc-edge.model', 'gone')")
    chat.reload()
    assert loads(chat) == [POCKET["id"]]


def test_dialog_tells_what_each_model_costs_and_whether_it_fits(open_chat: OpenChat):
    chat = open_chat(
        {"stored": ["second-q4f16_1"], "misfits": {"big": TOO_SMALL}}, bundles=(POCKET, BIG, SECOND)
    )
    chat.open_models()
    expect(item(chat, POCKET)).to_contain_text("2.4 MB to download · 4.8 MB of GPU memory")
    expect(item(chat, POCKET)).to_contain_text("context of 1,024 tokens · q4f16_1")
    expect(item(chat, POCKET)).to_contain_text("In use")
    expect(item(chat, POCKET).get_by_role("button")).to_have_count(0)
    expect(item(chat, BIG)).to_contain_text("1.2 GB to download")
    expect(item(chat, BIG)).to_contain_text(
        "The GPU has too little memory. Choose a smaller model."
    )
    expect(item(chat, BIG)).not_to_contain_text("On this device")
    expect(item(chat, SECOND)).to_contain_text("On this device")
    expect(item(chat, SECOND)).not_to_contain_text("to download")
    expect(dialog(chat)).to_contain_text("This site uses 2.4 MB of 10 GB on this device.")
    chat.page.keyboard.press("Escape")
    expect(dialog(chat)).to_be_hidden()
    expect(chat.page.locator("#model-button")).to_be_focused()


def test_files_are_deleted_from_this_device(open_chat: OpenChat):
    chat = open_chat({"stored": ["pocket-q4f16_1", "second-q4f16_1"]}, bundles=(POCKET, SECOND))
    hint = chat.page.locator("#offline-state")
    expect(hint).to_have_text("Ready for offline use.")
    chat.open_models()
    delete = item(chat, SECOND).get_by_role("button", name="Delete from this device")
    delete.click()
    expect(item(chat, SECOND)).not_to_contain_text("On this device")
    expect(item(chat, POCKET)).to_contain_text("On this device")
    expect(dialog(chat).get_by_role("button", name="Close models")).to_be_focused()
    item(chat, POCKET).get_by_role("button", name="Delete from this device").click()
    expect(hint).to_have_text("")
    deleted = chat.page.evaluate("fake.engine.storage.deleted")
    assert [url.split("/")[-2:] for url in deleted] == [
        ["second-q4f16_1", ""],
        ["pocket-q4f16_1", ""],
    ]


def test_big_model_is_loaded_on_a_click_alone(open_chat: OpenChat):
    chat = open_chat(bundles=(BIG,), ready=False)
    load = card(chat).get_by_role("button", name="Load big-q4f16_1, 1.2 GB")
    expect(card(chat)).to_contain_text("Downloads 1.2 GB once, then works offline.")
    expect(card(chat)).to_contain_text("2.4 GB of GPU memory")
    assert loads(chat) == []
    # A question waits for the decision, and the focus shows where it is made.
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.answers.last).to_contain_text("Load the model below to get the answer.")
    expect(load).to_be_focused()
    load.click()
    expect(chat.answers.last).to_contain_text("How can I help you?")
    assert loads(chat) == [BIG["id"]]
    assert chat.page.evaluate("fake.engine.storage.persistenceRequests") == 1


def test_big_model_that_is_stored_loads_by_itself(open_chat: OpenChat):
    chat = open_chat({"stored": ["big-q4f16_1"]}, bundles=(BIG,))
    assert loads(chat) == [BIG["id"]]
    assert chat.page.evaluate("fake.engine.storage.persistenceRequests") == 0


def test_each_stage_of_loading_is_told(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.expect_engine("loading")
    text, bar = card(chat).locator("#load-text"), card(chat).get_by_role("progressbar")
    stages = [
        ("check", {}, "Checking this device", None),
        ("download", {"loadedBytes": 0, "totalBytes": 2_400_000}, "Downloading 0 of 2.4 MB", "0"),
        (
            "download",
            {"loadedBytes": 1_200_000, "totalBytes": 2_400_000, "bytesPerSecond": 310_000},
            "Downloading 1.2 of 2.4 MB · 310 kB/s",
            "0.5",
        ),
        ("library", {}, "Starting the model's library", None),
        (
            "upload",
            {"loadedBytes": 600_000, "totalBytes": 2_400_000},
            "Copying to the GPU 0.6 of 2.4 MB",
            "0.25",
        ),
        ("pipelines", {"done": 3, "total": 4}, "Preparing the GPU 3 of 4", "0.75"),
        ("self-test", {}, "Self-test", None),
    ]
    for stage, numbers, told, value in stages:
        progress(chat, stage, **numbers)
        expect(text).to_have_text(told)
        if value is None:
            expect(bar).not_to_have_attribute("value")
        else:
            expect(bar).to_have_attribute("value", value)
    chat.engine("finishLoad")
    chat.expect_engine("ready")
    expect(card(chat)).to_be_hidden()


def test_loading_can_be_cancelled_and_begun_again(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.expect_engine("loading")
    cancel = card(chat).get_by_role("button", name="Cancel loading")
    cancel.focus()
    progress(chat, "download", loadedBytes=1, totalBytes=2)
    expect(cancel).to_be_focused()
    cancel.click()
    chat.expect_engine("idle")
    expect(chat.box).to_be_focused()
    # What the engine says after that is no news.
    chat.engine("finishLoad")
    chat.expect_engine("idle")
    card(chat).get_by_role("button", name="Load pocket-q4f16_1").click()
    chat.expect_engine("loading")
    chat.engine("finishLoad")
    chat.expect_engine("ready")


def test_other_model_chosen_while_one_loads_wins(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, bundles=(POCKET, SECOND), ready=False)
    chat.expect_engine("loading")
    use(chat, SECOND)
    expect(card(chat)).to_contain_text(f"Loading {SECOND['id']}")
    chat.engine("finishLoad")
    chat.expect_engine("ready")
    expect(chat.page.locator("#model-name")).to_have_text(SECOND["id"])


def test_question_asked_while_the_model_loads_is_answered_then(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.answers.last).to_contain_text("Waiting for the model")
    assert chat.requests() == []
    chat.expect_engine("loading")
    chat.engine("finishLoad")
    expect(chat.answers.last).to_contain_text("How can I help you?")


def test_answer_that_is_written_waits_for_nothing(open_chat: OpenChat):
    chat = open_chat({"manualAnswer": True})
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.answers.last).to_contain_text("Thinking")
    chat.engine("push", "Good day.")
    expect(chat.texts.last).to_have_text("Good day.")
    chat.open_models()
    expect(dialog(chat)).to_contain_text("This site uses")
    chat.page.keyboard.press("Escape")
    expect(chat.answers.last).not_to_contain_text("Waiting")


def test_question_that_waits_can_be_stopped(open_chat: OpenChat):
    chat = open_chat({"manualLoad": True}, ready=False)
    chat.box.fill("Hello")
    chat.box.press("Enter")
    chat.stop_button.click()
    expect(chat.answers.last).to_contain_text("Stopped before the first word.")
    chat.expect_engine("loading")
    chat.engine("finishLoad")
    chat.expect_engine("ready")
    assert chat.requests() == []


def test_failed_load_says_why_and_is_tried_again(open_chat: OpenChat):
    chat = open_chat({"loadProblems": [BROKEN]}, bundles=(POCKET, SECOND), ready=False)
    chat.expect_engine("error")
    expect(card(chat)).to_contain_text("The download broke off.")
    expect(card(chat)).to_contain_text("Try once more.")
    expect(card(chat)).not_to_contain_text("Which browsers work")
    expect(state(chat)).to_have_text("Problem")
    # What was typed is not sent to nobody.
    chat.box.fill("Hello")
    chat.box.press("Enter")
    expect(chat.questions).to_have_count(0)
    expect(chat.box).to_have_value("Hello")
    expect(card(chat).get_by_role("button").first).to_be_focused()
    card(chat).get_by_role("button", name="Other models").click()
    expect(dialog(chat)).to_be_visible()
    chat.page.keyboard.press("Escape")
    card(chat).get_by_role("button", name="Try again").click()
    chat.expect_engine("ready")


def test_model_that_does_not_fit_is_not_loaded(open_chat: OpenChat):
    chat = open_chat({"misfits": {"pocket": TOO_SMALL}}, bundles=(POCKET, SECOND), ready=False)
    chat.expect_engine("error")
    expect(card(chat)).to_contain_text("The GPU has too little memory.")
    assert loads(chat) == []
    use(chat, SECOND)
    chat.expect_engine("ready")


def test_lost_model_is_loaded_for_the_next_answer(open_chat: OpenChat):
    chat = open_chat({"answers": [LOST, "Better now."]})
    chat.send("Hello")
    expect(chat.answers.last).to_contain_text("The GPU went away.")
    expect(state(chat)).to_have_text("Not loaded")
    assert loads(chat) == [POCKET["id"]]
    chat.ask("Again")
    assert loads(chat) == [POCKET["id"]] * 2
    expect(chat.answers.last).to_contain_text("Better now.")


def test_gpu_that_is_reset_is_told(open_chat: OpenChat):
    chat = open_chat()
    toasts = chat.page.get_by_role("region", name="Notifications")
    for device, text in (
        ("lost", "was reset"),
        ("recovering", "Starting"),
        ("recovered", "is back"),
    ):
        chat.engine("emit", {"kind": "device", "state": device, "reason": "test"})
        expect(toasts).to_contain_text(text)


def test_list_of_models_that_can_not_be_had(open_chat: OpenChat):
    chat = open_chat()
    chat.page.unroute("**/bundles/index.json")
    chat.page.route("**/bundles/index.json", lambda route: route.fulfill(status=503))
    chat.page.evaluate("caches.delete('mlc-edge-documents-v1')")
    chat.page.reload()
    chat.expect_engine("error")
    expect(card(chat)).to_contain_text("The list of models can't be read")
    expect(card(chat).get_by_role("button", name="Other models")).to_have_count(0)
    chat.page.unroute("**/bundles/index.json")
    chat.page.route(
        "**/bundles/index.json",
        lambda route: route.fulfill(json={"bundles": [{"id": 3}, None, POCKET]}),
    )
    card(chat).get_by_role("button", name="Try again").click()
    chat.expect_engine("ready")


def test_an_entry_that_is_damaged_hides_no_other(open_chat: OpenChat):
    damaged = ({**POCKET, "id": "a", "url": "http://["}, {"id": 5}, {})
    chat = open_chat(bundles=(*damaged, POCKET))
    expect(chat.page.locator("#model-name")).to_have_text(POCKET["id"])


def test_host_without_models_says_so(open_chat: OpenChat):
    chat = open_chat(bundles=(), ready=False)
    expect(card(chat)).to_contain_text("This host offers no models.")


def test_numbers_of_an_answer(open_chat: OpenChat):
    extra = {
        "prefill_tokens_per_s": 1234.5,
        "decode_tokens_per_s": 99.96,
        "time_to_first_token_s": 12.34,
        "e2e_latency_s": 119.7,
    }
    usage = {"prompt_tokens": 1042, "completion_tokens": 1, "extra": extra}
    usage["prompt_tokens_details"] = {"cached_tokens": 30}
    chat = open_chat({"usage": usage})
    chat.ask("Hello")
    stats = chat.answers.last.locator("details")
    expect(stats.locator("summary")).to_have_text("12.3 sec to first token · 100.0 tokens/s")
    stats.locator("summary").click()
    expect(stats.locator("dd")).to_have_text(
        [
            "pocket-q4f16_1",
            "1,042 tokens, 30 of them cached",
            "1 token",
            "1,235 tokens/s",
            "100.0 tokens/s",
            "2 min 0 sec",
        ]
    )
    chat.reload()
    expect(stats.locator("dd").first).to_have_text("pocket-q4f16_1")
