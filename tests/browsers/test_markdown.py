"""A stored conversation, as each engine shows it."""

from typing import Any

from tests.browsers.browser import RealBrowser
from tests.browsers.conftest import OpenSite

ANSWER = """# Title

One **bold** *soft* ~~gone~~ `code`
two

3. three
4. four

> quoted

| left | right |
|:-----|------:|
| 1    | 2     |

```python
if a < b:
    print("<b>")
```

<script>window.hacked = 1</script>

[site](https://example.org/) [bad](javascript:hacked=2)
"""
SETTINGS = {"systemPrompt": "", "contextPolicy": "error"}
CONVERSATION = {"id": "fixed", "title": "Fixed", "named": True, "createdAt": 1, "updatedAt": 1}
STORE = """
async (conversation, messages) => {
  const open = indexedDB.open("mlc-edge-chat");
  await new Promise((resolve, reject) => { open.onsuccess = resolve; open.onerror = reject; });
  const all = open.result.transaction(["conversations", "messages"], "readwrite");
  all.objectStore("conversations").put(conversation);
  for (const message of messages) all.objectStore("messages").put(message);
  await new Promise((resolve, reject) => { all.oncomplete = resolve; all.onerror = reject; });
}
"""


def message(id: str, role: str, content: str, parent: str | None = None) -> dict[str, Any]:
    key = {"conversationId": "fixed", "id": id, "parentId": parent}
    return {**key, "role": role, "content": content, "createdAt": 1, "state": "stop"}


def test_a_stored_conversation_is_rendered(browser: RealBrowser, open_site: OpenSite):
    url = open_site().url
    browser.open(url)
    browser.wait_for_text("#model-card", "This host offers no models.")
    messages = [message("a", "user", "**Write** it."), message("b", "assistant", ANSWER, "a")]
    browser.run(STORE, {**CONVERSATION, "settings": SETTINGS}, messages)
    browser.open(f"{url}#fixed")
    browser.wait_for_text("article.assistant .body", "quoted")
    found = browser.run(
        """() => {
          const body = document.querySelector("article.assistant .body");
          const texts = (tag) => [...body.querySelectorAll(tag)].map((node) => node.textContent);
          return {
            question: document.querySelector("article.user .body").textContent,
            tags: Object.fromEntries(["h2", "strong", "em", "del", "blockquote p", "ol li", "td"]
              .map((tag) => [tag, texts(tag)])),
            code: body.querySelector("pre").textContent,
            start: body.querySelector("ol").start,
            right: getComputedStyle(body.querySelectorAll("td")[1]).textAlign,
            links: [...body.querySelectorAll("a")].map((link) => link.getAttribute("href")),
            hacked: window.hacked ?? null,
          };
        }"""
    )
    assert found == {
        "question": "**Write** it.",
        "tags": {
            "h2": ["Title"],
            "strong": ["bold"],
            "em": ["soft"],
            "del": ["gone"],
            "blockquote p": ["quoted"],
            "ol li": ["three", "four"],
            "td": ["1", "2"],
        },
        "code": 'if a < b:\n    print("<b>")\n',
        "start": 3,
        "right": found["right"],
        "links": ["https://example.org/", None],
        "hacked": None,
    }
    # Engines have names of their own for the attribute's alignment.
    assert found["right"].endswith("right")
    assert browser.problems() == []
