"""Small models' parameters, and what their layers make of the self-test's inputs, in NumPy float64."""

from typing import Any

import numpy as np

from tests.build.mlc_reader import dequantize

# None of them a multiple of a group; more outputs than are compared.
HIDDEN, HEADS, INNER, VOCABULARY = 36, 24, 20, 21
ROWS = 3
# Of two heads of four features.
ATTENDED = [0.25, 0.5, 0.75, -0.125, 1.5, -1.25, 0.375, 2.0]
EPSILON = 1e-5
TOLERANCE = {
    "float32": {
        **{"sum": 5e-6, "value": 1e-5, "least": 2.0**-126},
        **{"activation": 1e-5, "attention": 1e-4, "logits": 0.02},
    },
    "float16": {
        **{"sum": 5e-6, "value": 2e-3, "least": 2.0**-14},
        **{"activation": 2e-2, "attention": 2e-2, "logits": 0.25},
    },
}
Array = np.ndarray


def _input(rows: int, width: int) -> list[list[int]]:
    """In units of 1/128."""
    return [
        [127 if k % 32 == 0 else (89 * row + 37 * k + 61) % 255 - 127 for k in range(width)]
        for row in range(rows)
    ]


class _Model:
    """Parameters, and each layer's weight as numbers."""

    def __init__(self, layout: str, dtype: str) -> None:
        self.layout, self.dtype = layout, dtype
        self.random = np.random.default_rng(11)
        self.parameters: list[dict[str, Any]] = []
        self.weights: dict[str, Array] = {}

    def vector(self, name: str, width: int) -> Array:
        values = (self.random.integers(32, 128, width) / 64).astype(self.dtype)
        # What comes of this one is no normal number in float16.
        values[5] = 2.0**-16
        self._store(f"{name}.weight", values)
        return values.astype(np.float64)

    def linear(self, name: str, depth: int, width: int) -> dict[str, Any]:
        stored = ["weight"]
        if self.layout == "plain":
            weight = (self.random.integers(-64, 65, (width, depth)) / 64).astype(self.dtype)
            self._store(f"{name}.weight", weight)
        else:
            groups = -(-depth // 32)
            bits = 8 if self.layout == "q8" else 4
            words = self.random.integers(0, 1 << 32, (width, groups * bits), np.uint32)
            scales = self._floats(width, groups)
            minimums = -self._floats(width, groups) if self.layout == "q4m" else None
            parts = {"q_weight": words, "q_scale": scales, "q_minimum": minimums}
            stored = [part for part, values in parts.items() if values is not None]
            for part in stored:
                self._store(f"{name}.{part}", parts[part])
            weight = dequantize(words, scales, depth, minimums)
        self.weights[name] = weight.astype(np.float64)
        return {
            "parameters": [f"{name}.{part}" for part in stored],
            "layout": self.layout,
            "in_features": depth,
            "out_features": width,
        }

    def _floats(self, width: int, groups: int) -> Array:
        return (self.random.integers(1, 32, (width, groups)) / 64).astype(self.dtype)

    def _store(self, name: str, values: Array) -> None:
        entry = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
        self.parameters.append({**entry, "data": values.ravel().tolist()})


def _case(layout: str, dtype: str) -> dict[str, Any]:
    model = _Model(layout, dtype)
    norm = model.vector("norm", HIDDEN)

    def described(name: str, depth: int, width: int, reads: int, **more: bool) -> dict[str, Any]:
        flags = {"residual": False, "logits": False, **more}
        return {"kind": "linear", **model.linear(name, depth, width), "input": reads, **flags}

    results = [
        {"kind": "rms_norm", "parameters": ["norm.weight"], "input": 0, "epsilon": EPSILON},
        described("o_proj", HEADS, HIDDEN, 1, residual=True),
        described("gate_up_proj", HIDDEN, 2 * INNER, 0),
        {"kind": "gated_silu"},
        described("embed_tokens", HIDDEN, VOCABULARY, 0, logits=True),
    ]
    # As where a layer and what surrounds it are one program.
    fused = {"norm": {"parameters": ["norm.weight"], "epsilon": EPSILON}, "logits": False}
    results += [{**results[4], **fused}, {**results[2], **fused, "gated": True}]
    hidden, heads = (np.array(_input(ROWS, width)) / 128 for width in (HIDDEN, HEADS))
    both = hidden @ model.weights["gate_up_proj"].T
    normed = hidden / np.sqrt((hidden**2).mean(1, keepdims=True) + EPSILON) * norm
    given = [
        normed,
        heads @ model.weights["o_proj"].T + hidden,
        both,
        _activation(both),
        hidden @ model.weights["embed_tokens"].T,
        normed @ model.weights["embed_tokens"].T,
        _activation(normed @ model.weights["gate_up_proj"].T),
    ]
    table = {
        key: results[4][key] for key in ("parameters", "layout", "in_features", "out_features")
    }
    ids = [0, 6, 13, 20]
    return {
        "metadata": {
            "dtype": dtype,
            "params": [
                {key: p[key] for key in ("name", "shape", "dtype")} for p in model.parameters
            ],
            "kv_cache": {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4},
            "self_test": {
                "inputs": [HIDDEN, HEADS, INNER],
                "results": results,
                "runs": [{"function": "all", "lead": [ROWS, 1], "results": [*range(7)]}],
                "embedding": {**table, "rows": len(ids)},
                "attention": {
                    "prefill_length": 3,
                    "places": [0, 3, 7],
                    "expected_decode": [ATTENDED[0], ATTENDED[3], ATTENDED[7]],
                },
                "prompt_length": 4,
                "tolerance": TOLERANCE[dtype],
            },
        },
        "parameters": model.parameters,
        "attended": ATTENDED,
        "ids": ids,
        "results": [_rounded(_flushed(values, dtype)) for values in given],
        "embeddings": _rounded(model.weights["embed_tokens"][ids]),
    }


def _activation(both: Array) -> Array:
    gate, up = both[:, :INNER], both[:, INNER:]
    return gate / (1 + np.exp(-gate)) * up


def _flushed(values: Array, dtype: str) -> Array:
    """As WGSL allows (https://www.w3.org/TR/WGSL/#floating-point-evaluation)."""
    return np.where(np.abs(values) < np.finfo(dtype).tiny, 0, values)


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.9g}") for value in values.ravel()]


def make() -> dict[str, Any]:
    """Inputs, and a model of each layout."""
    return {
        "input": {"rows": 3, "width": 70, "in_128ths": _input(3, 70)},
        "cases": [
            _case(layout, dtype)
            for layout, dtype in (
                ("q4", "float32"),
                ("plain", "float16"),
                ("q4", "float16"),
                ("q4m", "float16"),
                ("q8", "float32"),
            )
        ],
    }
