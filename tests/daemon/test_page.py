"""The chat page of the same daemon."""

import httpx

from tests.daemon.conftest import Guarded
from tests.daemon.daemons import MODEL


def test_index_names_the_daemon(http: httpx.Client):
    index = http.get("/bundles/index.json").json()
    assert index["daemon"] == {
        "url": "v1/",
        "models": [
            {
                "id": MODEL,
                "context_window_size": 1024,
                "quantization": "q4f16_1",
                "model_type": "llama",
            }
        ],
    }
    # It has no library for browsers.
    assert index["bundles"] == []


def test_page_is_served_and_isolated(http: httpx.Client):
    response = http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["cross-origin-embedder-policy"] == "require-corp"


def test_without_the_page(guarded: Guarded):
    assert guarded.daemon.get("").status_code == 404
    assert guarded.daemon.get("").json()["error"]["code"] == "not_found"
    assert guarded.daemon.get("bundles/index.json").status_code == 404
