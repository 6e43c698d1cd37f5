"""Texts that are only tokenized wait for each other, not chats for them."""

import asyncio
import threading
from pathlib import Path

import pytest

from mlc_edge import AsyncMLCEngine
from mlc_edge.engine.conversation import Conversation
from mlc_edge.engine.engine import TOKENIZING_PLACES
from mlc_edge.errors import EngineError
from tests.python_engine.conftest import user


def test_texts_that_are_tokenized_hold_up_no_chat(
    pocket_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    begun: list[str] = []
    may_go_on = threading.Event()
    encode = Conversation.encode

    def watched(self: Conversation, text: str) -> list[int]:
        begun.append(text)
        assert may_go_on.wait(60)
        return encode(self, text)

    monkeypatch.setattr(Conversation, "encode", watched)

    async def run() -> None:
        engine = AsyncMLCEngine(pocket_bundle)

        def tokenize(text: str) -> "asyncio.Task[list[int]]":
            return asyncio.create_task(engine.tokenize(text))

        staying = tokenize("first")
        leaving = [tokenize("left") for _ in range(TOKENIZING_PLACES - 1)]
        while not begun:
            await asyncio.sleep(0)
        await engine.chat.completions.create(messages=user("Hello"), max_tokens=1)
        with pytest.raises(EngineError) as error:
            await engine.detokenize([5])
        assert error.value.code == "queue_full"
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        later = tokenize("later")
        may_go_on.set()
        assert await staying == encode(engine._text.conversation, "first")
        assert await later
        assert begun == ["first", "later"]
        await engine.close()

    asyncio.run(asyncio.wait_for(run(), 60))
