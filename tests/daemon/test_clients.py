"""Who counts as one client where there are no keys; addresses that no test machine has of its own."""

import asyncio
from pathlib import Path

import httpx

from edge.daemon.app import create_daemon_app
from edge.daemon.config import Source
from edge.daemon.model import ServedModel
from edge.daemon.page import Page
from edge.daemon.settings import Settings
from tests.daemon.daemons import LONG, SHORT

HOLDER, SAME_NETWORK, ELSEWHERE = "2001:db8:1:2::7", "2001:db8:1:2:ffff::8", "2001:db8:1:3::7"


def test_addresses_of_one_network_share_a_place(bundle: Path):
    async def run() -> None:
        settings = Settings(Source(given={"model": str(bundle), "max_batch": 1, "max_queue": 0}))
        model = ServedModel()
        await model.load(settings.config, lambda step, share: None)
        app = create_daemon_app(settings, model, Page())

        async def ask(address: str, body: dict[str, object]) -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.post("/v1/chat/completions", json=body, timeout=None)

        held = asyncio.create_task(ask(HOLDER, LONG))
        while not model.engine().stats().running:
            await asyncio.sleep(0)
        refused = await ask(SAME_NETWORK, SHORT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert (await ask(ELSEWHERE, SHORT)).status_code == 200
        held.cancel()
        await asyncio.wait([held])
        await model.close(0)

    asyncio.run(run())
