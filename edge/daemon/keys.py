"""API keys of a file, kept as digests and compared in constant time."""

import hashlib
import hmac
import logging
import os
import stat
from pathlib import Path

from mlc_edge.errors import ConfigError

logger = logging.getLogger(__name__)
MIN_LENGTH = 16


class KeyRing:
    """Who may use the API; without keys, everyone."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self._digests = tuple(_digest(key.encode()) for key in keys)

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header's value carries one of the keys as a bearer token."""
        return not self._digests or self.digest_of(authorization) is not None

    def digest_of(self, authorization: str | None) -> bytes | None:
        """SHA-256 of the key that the header's value carries, however it is spelt; None without one."""
        scheme, _, token = (authorization or "").partition(" ")
        digest = _digest(token.strip().encode("latin-1", "replace"))
        # All are compared, so that the time tells nothing about which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest if scheme.lower() == "bearer" and any(matches) else None


def read_keys(path: Path | None) -> KeyRing:
    """The keys in `path`; raises ConfigError when it can't be read, holds none or isn't the owner's."""
    if path is None:
        return KeyRing()
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read().splitlines()
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"can't read the API keys in {path}: {error}. Check --api-key-file."
        ) from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    odd = [number for number, line in enumerate(lines, 1) if line.strip() in keys and _odd(line)]
    if odd:
        raise ConfigError(f"{path}, line {odd[0]}: a key is ASCII text without blanks.")
    if not keys:
        raise ConfigError(f"{path} holds no API keys: write one a line, or drop --api-key-file.")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"other users can write keys of their own to {path}: chmod 600 it.")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("other users of this machine can read %s: chmod 600 it", path)
    if any(len(key) < MIN_LENGTH for key in keys):
        logger.warning("%s has a key of fewer than %d characters", path, MIN_LENGTH)
    return KeyRing(keys)


def _odd(line: str) -> bool:
    key = line.strip()
    return not (key.isascii() and key.isprintable() and " " not in key)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
