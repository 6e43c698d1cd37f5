"""Signatures of bundles: Ed25519 (RFC 8032) over the exact bytes of mlc-lock.json, in a file beside it.

The lock has the hashes of all other files, so its signature vouches for the whole bundle; docs/security.md
has the format. Cryptography is the `cryptography` package's, loaded when a key is used.
"""

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_edge.bundle import LOCK_NAME, SIGNATURE_NAME
from mlc_edge.errors import BundleError, ConfigError
from mlc_edge.files import FileError, read_json, read_plain

SIGNATURE_VERSION = 1
ALGORITHM = "ed25519"
PREFIX = f"{ALGORITHM}:"
KEY_BYTES, SIGNATURE_BYTES = 32, 64
MAX_KEY_FILE_BYTES = 1 << 16
EXPECTED_KEY = "as `mlc-edge key new` prints it: ed25519: and 44 characters"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key; its text is "ed25519:" and Base64."""

    raw: bytes

    @property
    def id(self) -> str:
        """What signatures name it by: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return PREFIX + base64.b64encode(self.raw).decode()


def parse_public_key(text: str) -> PublicKey:
    """Read a key's text; raises ValueError that says what was expected."""
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(PREFIX) or len(raw) != KEY_BYTES:
        raise ValueError(f"expected {EXPECTED_KEY}")
    return PublicKey(raw)


def parse_public_keys(texts: Iterable[str]) -> tuple[PublicKey, ...]:
    """Read keys; raises ConfigError that names the wrong one."""
    keys = []
    for text in texts:
        try:
            keys.append(parse_public_key(text))
        except ValueError as error:
            raise ConfigError(f"trusted key {text!r:.80}: {error}.") from error
    return tuple(keys)


class SigningKey:
    """A private key, from its file."""

    def __init__(self, private: Any) -> None:
        self._private = private

    @classmethod
    def create(cls, path: Path) -> "SigningKey":
        """Make a key and write it to a new file that only its owner can read; raises ConfigError."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        content = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write_new(path, content)
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        """Read a key's file: PKCS #8 in PEM, without a passphrase; raises ConfigError."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        expected = "name a file that `mlc-edge key new` made."
        try:
            path = path.resolve()
            content = read_plain(path.parent, path.name, MAX_KEY_FILE_BYTES)
            if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{path} is open to other users: chmod 600 it, or make a new key."
                )
            private = load_pem_private_key(content, password=None)
        except (FileError, OSError) as error:
            raise ConfigError(f"the key {path} can't be read ({error}): {expected}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(
                f"{path} holds no private key without a passphrase: {expected}"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(f"{path} is no Ed25519 key: {expected}")
        return cls(private)

    @property
    def public(self) -> PublicKey:
        """The key that others check signatures with."""
        return PublicKey(self._private.public_key().public_bytes_raw())

    def sign(self, bundle: Path) -> None:
        """Put a signature beside the lock, in place of an older one; raises BundleError."""
        content = {
            "signature_version": SIGNATURE_VERSION,
            "algorithm": ALGORITHM,
            "key_id": self.public.id,
            "signature": base64.b64encode(self._private.sign(_lock_bytes(bundle))).decode(),
        }
        partial = bundle / f"{SIGNATURE_NAME}.partial"
        try:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            partial.replace(bundle / SIGNATURE_NAME)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise ConfigError(
                f"{bundle} can't be signed ({error.strerror}): make it writable, or copy it."
            ) from error


def find_signer(bundle: Path, keys: Sequence[PublicKey]) -> PublicKey:
    """The one of `keys` that signed the bundle's lock; raises BundleError if none did."""
    remedy = "sign it with `mlc-edge key sign`, or add its publisher's key to trusted_key."
    if not (bundle / SIGNATURE_NAME).exists():
        raise BundleError(
            f"{bundle} is not signed, and this machine runs signed bundles only: {remedy}"
        )
    key_id, signature = _read_signature(bundle)
    key = next((key for key in keys if key.id == key_id), None)
    if key is None:
        raise BundleError(
            f"{bundle} is signed by the key {key_id}, which isn't trusted here: {remedy}"
        )
    if not _is_signed(key, signature, _lock_bytes(bundle)):
        raise BundleError(
            f"{bundle / LOCK_NAME} is not what the key {key_id} signed: download the bundle again."
        )
    return key


def _is_signed(key: PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _read_signature(bundle: Path) -> tuple[str, bytes]:
    try:
        content = read_json(bundle, SIGNATURE_NAME)
        if (content["signature_version"], content["algorithm"]) != (SIGNATURE_VERSION, ALGORITHM):
            raise ValueError(f"expected version {SIGNATURE_VERSION} and {ALGORITHM}")
        signature = base64.b64decode(content["signature"], validate=True)
        if len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"expected {SIGNATURE_BYTES} bytes of signature")
        return str(content["key_id"]), signature
    except (FileError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{bundle / SIGNATURE_NAME} is no signature ({error}): sign the bundle again."
        ) from error


def _lock_bytes(bundle: Path) -> bytes:
    try:
        return read_plain(bundle, LOCK_NAME)
    except FileError as error:
        raise BundleError(f"{bundle} is not a bundle: {error}.") from error


def _write_new(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists, and a key is never overwritten: name another file."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written ({error.strerror}): name another file."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(
            f"{path} can't be written ({error.strerror}): name another file."
        ) from error
