"""A server of OpenAI's API, as much of it as the widget asks."""

import json

from playwright.sync_api import Route


def events(*deltas: dict[str, object], finish: str = "stop") -> str:
    chunks = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


class Server:
    """Answers what the widget asks of OpenAI's API under api/."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, object]] = []

    def __call__(self, route: Route) -> None:
        if route.request.url.endswith("/models"):
            route.fulfill(json={"data": [{"id": "first"}]})
            return
        self.asked.append(route.request.post_data_json)
        route.fulfill(body=self.answers.pop(0), content_type="text/event-stream")
