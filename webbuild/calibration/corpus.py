"""Token ids of texts: those that ship with the project, or given ones."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mlc_edge.chat_template import ChatTemplate
from mlc_edge.engine.control_tokens import front_tokens
from mlc_edge.errors import CheckpointError, ConfigError
from webbuild.model_folder import ChatFiles

FOLDER = Path(__file__).parent
TEXT, CHATS, HELD_OUT = "text.md", "chats.json", "held_out.md"
# A sequence of it shows how attention works; more of them, how inputs differ.
SEQUENCE_TOKENS = 512
LARGEST_TEXT = 16 << 20
# With fewer tokens, means of squares would be accidents.
FEWEST_TOKENS = 16

Ids = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


class TokenIds:
    """A model's tokenizer, for texts that are cut into sequences of one length."""

    def __init__(self, chat: ChatFiles) -> None:
        """Raises CheckpointError if the tokenizer can't be used."""
        self._chat = chat
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(chat.tokenizer))
            # For models that were trained with a mark of a text's begin.
            self._prefix = list(front_tokens(self._tokenizer))
        except BaseException as error:
            raise _unusable(error) from error

    def sequences(self, text: str, length: int, count: int) -> Ids:
        """At most `count` sequences [n, length] of `text`, evenly spread; a short text makes a shorter one.

        Raises ConfigError for a text of fewer than 16 tokens.
        """
        return self._cut(self._encode(text), length, count)

    def calibration(self, file: Path | None, *, context: int, tokens: int) -> Ids:
        """About `tokens` of the calibration text, or of `file`; sequences are not longer than `context`."""
        ids = self._encode(read_text(file) if file else read_text(FOLDER / TEXT))
        if file is None:
            for conversation in self._conversations():
                ids += self._encode(conversation)
        length = min(SEQUENCE_TOKENS, context)
        return self._cut(ids, length, max(1, tokens // length))

    def text(self, ids: Sequence[int]) -> str:
        """Of some tokens, control tokens by their names."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except BaseException as error:
            raise _unusable(error) from error

    def _cut(self, ids: list[int], length: int, count: int) -> Ids:
        if len(ids) < FEWEST_TOKENS:
            raise ConfigError(
                f"a text of {len(ids)} tokens says too little: give one of a few hundred words."
            )
        room = length - len(self._prefix)
        if room < FEWEST_TOKENS:
            raise ConfigError(
                f"the tokenizer puts {len(self._prefix)} tokens before a text, of {length} at most: build "
                "with --quant-effort fast, which needs no text."
            )
        if len(ids) < room:
            return np.array([self._prefix + ids], np.int64)
        whole = np.array(ids[: len(ids) // room * room], np.int64).reshape(-1, room)
        picked = np.unique(np.linspace(0, len(whole) - 1, min(count, len(whole))).astype(int))
        prefix = np.tile(np.array(self._prefix, np.int64), (len(picked), 1))
        return np.concatenate([prefix, whole[picked]], axis=1)

    def _conversations(self) -> Iterator[str]:
        """As the model's template writes them; as plain paragraphs where it refuses."""
        conversations = json.loads((FOLDER / CHATS).read_text(encoding="utf-8"))
        for messages in conversations:
            try:
                text = ChatTemplate(self._chat.tokenizer_config).render(messages)
                # Half a pair of surrogates is no text for a tokenizer.
                text.encode()
            # Templates are programs that were written by others: they may recur and fill the memory.
            except Exception:
                _log.info("the chat template refuses a conversation of the calibration text")
                text = "\n\n".join(message["content"] for message in messages)
            yield text


def _unusable(error: BaseException) -> CheckpointError:
    """For what the tokenizer's library raises: plain Exceptions, and panics that are not even that."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    return CheckpointError(
        f"tokenizer.json can't be used ({str(error) or type(error).__name__:.200}): download the "
        "whole checkpoint again, or build with --quant-effort fast, which needs no text."
    )


def read_text(file: Path) -> str:
    """A UTF-8 text; raises ConfigError if `file` is none, or has more than 16 MiB."""
    try:
        if file.stat().st_size > LARGEST_TEXT:
            raise ConfigError(f"{file} has more than 16 MiB: give a text of a few thousand words.")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} can't be read as a text in UTF-8 ({error}): give a plain text file."
        ) from error


def text_hash(file: Path | None) -> str:
    """SHA-256 of the calibration text: of `file`, or of what ships with the project."""
    digest = hashlib.sha256()
    for path in [file] if file else [FOLDER / TEXT, FOLDER / CHATS]:
        digest.update(read_text(path).encode())
    return digest.hexdigest()
