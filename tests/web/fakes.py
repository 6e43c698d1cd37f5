"""Bundles and pages of random bytes: valid for the host and the service worker, no model inside."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from mlc_edge.bundle import ABI_VERSION

LIBRARY = "lib/webgpu-f32.wasm"
# Bytes that byte-level BPE writes as themselves; a blank as the last.
CHARACTERS = [*map(chr, range(33, 127)), "\u0120"]
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    "model": {
        "type": "BPE",
        "vocab": {character: id for id, character in enumerate(CHARACTERS)},
        "merges": [],
    },
}
CHAT_CONFIG = {"version": "0.1.0", "vocab_size": len(CHARACTERS)}
TEMPLATE = "{{ messages[0]['content'] }}"


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_files(root: Path, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Writes the files and returns their lock entries, sorted by path."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return [
        {"path": path, "bytes": len(files[path]), "sha256": sha256(files[path])}
        for path in sorted(files)
    ]


def write_bundle(root: Path, files: dict[str, bytes], *, name: str = "fake-q4f32_1") -> Path:
    """A bundle of these files and the small ones that every bundle has."""
    files = {
        LIBRARY: b"\0asm\1\0\0\0" + b"wasm code " * 2000,
        "mlc-chat-config.json": json.dumps(CHAT_CONFIG).encode(),
        "tensor-cache.json": b'{"metadata": {}, "records": []}',
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
        "generation_config.json": b'{"temperature": 1}',
        **files,
    }
    lock = {
        "lock_version": 2,
        "abi_version": ABI_VERSION,
        "model": {
            "id": name,
            "model_type": "llama",
            "quantization": "q4f32_1",
            "context_window_size": 1024,
            "parameters": 1000,
        },
        "files": write_files(root, files),
        "targets": {
            "webgpu-f32": {
                "device": "webgpu",
                "library": LIBRARY,
                "parameters": "tensor-cache.json",
                "parameter_bytes": 1000,
                "needs": {"features": [], "limits": {"maxBufferSize": 1000}},
            }
        },
    }
    (root / "mlc-lock.json").write_text(json.dumps(lock))
    return root


def write_app(root: Path, files: dict[str, bytes]) -> Path:
    """A built page: `files` and the app-lock.json that names all but the service worker.

    Files named lazy are those that are kept once they were used.
    """
    write_files(root, files)
    locked = {path: content for path, content in files.items() if path != "service-worker.js"}
    entries = [
        {**entry, "lazy": True} if "lazy" in entry["path"] else entry
        for entry in write_files(root, locked)
    ]
    (root / "app-lock.json").write_text(json.dumps({"files": entries}))
    return root
