"""Locks that both engines take, and what each refuses alike: the rules, said by hand."""

from typing import Any

LIBRARY, INDEX = "lib/webgpu-f32.wasm", "tensor-cache.json"
TARGET: dict[str, Any] = {
    "device": "webgpu",
    "library": LIBRARY,
    "parameters": INDEX,
    "parameter_bytes": 8,
    "needs": {"features": ["shader-f16"], "limits": {"maxBufferSize": 8}, "adapter": {}},
}
FIRST_TARGET = {name: value for name, value in TARGET.items() if name != "device"}
LOCK = {
    "lock_version": 2,
    "abi_version": 2,
    "build_inputs": "ab",
    "model": {
        "id": "tiny-q4f16_1",
        "model_type": "llama",
        "quantization": "q4f16_1",
        "context_window_size": 64,
        "parameters": 1000,
    },
    "files": [
        {"path": LIBRARY, "bytes": 1, "sha256": "a" * 64},
        {"path": INDEX, "bytes": 1, "sha256": "b" * 64},
        {"path": "extra", "bytes": 0, "sha256": "c" * 64},
    ],
    "targets": {"webgpu-f32": TARGET},
}

# C0, line ends, DEL, C1, a soft hyphen, bidirectional, joiners, spaces that look like others or like nothing,
# halves of a pair, private use, unassigned.
UNPRINTABLE = (
    *"\0\t\n\r\x1b\x7f\x85\x9b\u00a0\u00ad\u061c\u200d\u200f\u2028\u2029\u202e\u2066\u3000\ufeff",
    *("\ud800", "\udfff", "\ue000", "\u0378", "\U000e0041", "\U0010ffff"),
)
PATHS = ("/etc/x", "..", "a/../b", "./a", "a//b", "a/", ".", "a\\b", "https:x", "a?b", "a#b", "%2e")
OWN = ("mlc-lock.json", "mlc-lock.json.sig", LIBRARY)
DEVICES = ("cpu", "vulkan", "cuda", "webgpu", "wasm")
BARE_NEEDS = {"features": [], "limits": {}}
IDS = ("", "a b", "a/b", "..", "-a", "é", "a%62")
# Whole numbers that a browser tells apart, however they are written, and what is none of them.
COUNTS = (0, 1.0, 1e3, -0.0, 2**53 - 1, float(2**53 - 1))
NO_COUNTS = (-1, -1.0, 1.5, 2**53, 2**53 + 1, float(2**53), 10**29, "1", None, True, [], {})
NO_HASHES = ("", "A" * 64, "a" * 63, "a" * 64 + "\n", None, 7)
PRINTABLE = ("a", "naïve 日本 👩", "a~b [red] <b>", "e\u0301")


def _target(**fields: Any) -> dict[str, Any]:
    return {**TARGET, **fields}


def _with_name(name: str) -> dict[str, tuple[list[Any], Any]]:
    """Every place of a lock that has a name of the author's choice: where it is, and what to put there."""
    needs = TARGET["needs"]
    return {
        "path": (["files", 2, "path"], name),
        "model_type": (["model", "model_type"], name),
        "quantization": (["model", "quantization"], name),
        "target": (["targets"], {name: TARGET}),
        "feature": (["targets", "webgpu-f32", "needs", "features"], [*needs["features"], name]),
        "limit": (["targets", "webgpu-f32", "needs", "limits"], {name: 1}),
        "adapter": (["targets", "webgpu-f32", "needs", "adapter"], {name: 1}),
    }


def _with_count(count: Any) -> list[tuple[list[Any], Any]]:
    """Every place of a lock that has a number: where it is, and what to put there."""
    target = ["targets", "webgpu-f32"]
    return [
        (["abi_version"], count),
        (["model", "context_window_size"], count),
        (["model", "parameters"], count),
        (["model", "formats"], {"q4": count}),
        (["files", 2, "bytes"], count),
        ([*target, "parameter_bytes"], count),
        ([*target, "needs", "limits"], {"a": count}),
        ([*target, "needs", "adapter"], {"a": count}),
    ]


def _incomplete() -> list[dict[str, Any]]:
    """Locks that lack one of the fields that all have."""
    wholes: list[tuple[list[Any], dict[str, Any]]] = [
        (["model"], LOCK["model"]),
        (["files", 2], LOCK["files"][2]),
        (["targets", "webgpu-f32"], TARGET),
        (["targets", "webgpu-f32", "needs"], BARE_NEEDS),
    ]
    return [
        _case(at, {name: whole[name] for name in whole if name != lost}, taken=False)
        for at, whole in wholes
        for lost in whole
    ]


def _case(at: list[Any], value: Any, *, taken: bool) -> dict[str, Any]:
    return {"at": at, "value": value, "taken": taken}


def make() -> dict[str, Any]:
    """`cases`: the lock with `value` put at `at` is taken or refused."""
    bad = [*(f"x{character}y" for character in UNPRINTABLE), ""]
    named = [
        _case(at, value, taken=taken)
        for taken, names in ((True, PRINTABLE), (False, bad))
        for name in names
        for at, value in _with_name(name).values()
    ]
    path, model_id = ["files", 2, "path"], ["model", "id"]
    device = ["targets", "webgpu-f32", "device"]
    adapter = ["targets", "webgpu-f32", "needs", "adapter"]
    formats = ["model", "formats"]
    return {
        "lock": LOCK,
        "cases": [
            *named,
            *(_case(path, value, taken=False) for value in (*PATHS, *OWN, 7)),
            *(_case(model_id, value, taken=False) for value in (*IDS, "a\u202eb", "a\ud800", 7)),
            _case(model_id, "Llama-3.2_1B", taken=True),
            # One content has one size.
            _case(["files", 2, "sha256"], "a" * 64, taken=False),
            _case(["files", 2], {**LOCK["files"][2], "sha256": "a" * 64, "bytes": 1}, taken=True),
            _case(["targets"], {"webgpu-f32": _target(library="nowhere")}, taken=False),
            _case(["targets", "webgpu-f32", "needs", "features"], [7], taken=False),
            _case(["targets"], {"webgpu-f32": FIRST_TARGET}, taken=False),
            *(_case(device, value, taken=True) for value in DEVICES),
            *(_case(device, value, taken=False) for value in ("", "WebGPU", "tpu", None, 7)),
            *(
                _case(adapter, value, taken=False)
                for value in ({"a": -1}, {"a": "1"}, {"a": 1.5}, 7)
            ),
            _case(["targets", "webgpu-f32", "needs"], BARE_NEEDS, taken=True),
            _case(["lock_version"], 1, taken=True),
            *(_case(["lock_version"], value, taken=True) for value in (1.0, 2.0)),
            *(
                _case(["lock_version"], value, taken=False)
                for value in (0, 3, 1.5, "2", None, True)
            ),
            *(
                _case(at, value, taken=taken)
                for taken, counts in ((True, COUNTS), (False, NO_COUNTS))
                for count in counts
                for at, value in _with_count(count)
            ),
            *_incomplete(),
            *(_case(["targets"], value, taken=False) for value in ({}, [], None, "webgpu-f32")),
            *(_case(["files", 2, "sha256"], value, taken=False) for value in NO_HASHES),
            *(_case(formats, value, taken=True) for value in ({}, {"q4": 10, "q8": 0})),
            *(
                _case(formats, value, taken=False)
                for value in (None, [], 7, "q4", {"": 1}, {"q\n4": 1})
            ),
            *(_case(["build_inputs"], value, taken=True) for value in ("", "a~b")),
            *(
                _case(["build_inputs"], value, taken=False)
                for value in (None, 7, [], "a\nb", "\ud800")
            ),
        ],
    }
