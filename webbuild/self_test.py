"""What a library offers an engine to test it with: its own kernels, one by one, on its own parameters.

`self_test_*` take inputs of the widths that the model's layers read and all parameters, and give the results
of the model's `probes`. Their programs are those of the model's functions, down to what is fused in them:
they add no kernels. What must come out the engine computes itself, from the weights as they are stored.
"""

from dataclasses import dataclass, replace
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from webbuild.attention_reference import attention_reference
from webbuild.layers import Embedding, Linear, RMSNorm
from webbuild.models.llama_spec import LlamaConfig
from webbuild.numerics import Numerics

# Rows of a prompt: tiles of 8, one of 4 and a single row on CPUs, more than a few on GPUs.
PREFILL_ROWS = 21
BATCH_ROWS = 3
# Tokens of a prompt that is computed at once, and with its last token in a step of its own.
PROMPT_TOKENS = 9
ATTENTION_TOKENS = 3
# Of all heads.
ATTENTION_VALUES = 64
EMBEDDED_ROWS = 4
INPUTS = ("hidden", "heads", "inner")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One of a model's layers, alone.

    `name` is the layer's in the parameter table, `reads` one of INPUTS. With `residual` the input "hidden" is
    added, as the model does; the result with `logits` is float32, for single rows only; a `gated` layer
    gives gate and up, and their activation is one more result. `norm` is the layer, after its name, whose
    results the model gives it: of use where both are one program.
    """

    name: str
    layer: Linear | RMSNorm
    reads: str = "hidden"
    residual: bool = False
    logits: bool = False
    gated: bool = False
    norm: tuple[str, RMSNorm] | None = None

    @property
    def fuses(self) -> bool:
        """Whether what surrounds the layer is computed along with it."""
        has_some = bool(self.norm or self.gated or self.residual)
        return has_some and isinstance(self.layer, Linear) and self.layer.fuses

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of `x`, alone."""
        if self.logits and isinstance(self.layer, Linear):
            return self.layer.forward(x, "float32")
        return self.layer.forward(x)

    def fused(self, x: Tensor, hidden: Tensor) -> Tensor:
        """What layer and surroundings make of `x`."""
        assert isinstance(self.layer, Linear)
        return self.layer.fused(
            x,
            norm=self.norm and self.norm[1],
            gated=self.gated,
            residual=hidden if self.residual else None,
        )


class SelfTest:
    """Mixed into a library's module, behind a model that has `numerics` and the first three methods."""

    numerics: Numerics

    def probes(self) -> list[Probe]:
        """A layer of each kind."""
        raise NotImplementedError

    def widths(self) -> dict[str, int]:
        """Features of each of INPUTS."""
        raise NotImplementedError

    def embedding(self) -> tuple[str, Embedding]:
        """The table of embeddings, with its name."""
        raise NotImplementedError

    def self_test_prefill(self, hidden: Tensor, heads: Tensor, inner: Tensor) -> tuple[Tensor, ...]:
        """Inputs [1, n, width] to the results of all probes but the logits."""
        return self._results({"hidden": hidden, "heads": heads, "inner": inner}, step=False)

    def self_test_decode(self, hidden: Tensor, heads: Tensor, inner: Tensor) -> tuple[Tensor, ...]:
        """Inputs [1, 1, width] to the results of all probes."""
        return self._results({"hidden": hidden, "heads": heads, "inner": inner}, step=True)

    def self_test_batch_decode(
        self, hidden: Tensor, heads: Tensor, inner: Tensor
    ) -> tuple[Tensor, ...]:
        """Inputs [b, 1, width] to the results of all probes."""
        return self._results({"hidden": hidden, "heads": heads, "inner": inner}, step=True)

    def self_test_spec(self) -> dict[str, Any]:
        """What `nn.Module.export_tvm` needs to know of the functions' arguments."""
        widths, dtype = self.widths(), self.numerics.dtype
        return {
            function: {
                **{name: nn.spec.Tensor([*lead, widths[name]], dtype) for name in INPUTS},
                "$": {"param_mode": "packed", "effect_mode": "none"},
            }
            for function, lead in self._leads().items()
        }

    def self_test_metadata(self, config: LlamaConfig, prefill_chunk_size: int) -> dict[str, Any]:
        """The `self_test` entry of a library's metadata: what comes out of what, and how exactly."""
        tests = [*self._tests(step=False), *self._tests(step=True)]
        described = {test: self._describe(*test) for test in dict.fromkeys(tests)}
        results = [result for described_test in described.values() for result in described_test]
        widths = self.widths()
        tokens = min(ATTENTION_TOKENS, prefill_chunk_size)
        attended = attention_reference(config, tokens + 1)
        count = min(len(attended), ATTENTION_VALUES)
        places = [place * (len(attended) - 1) // (count - 1) for place in range(count)]
        name, table = self.embedding()
        return {
            "inputs": [widths[name] for name in INPUTS],
            "results": results,
            "runs": self._runs(described, min(PREFILL_ROWS, prefill_chunk_size)),
            "embedding": {**self._stored(name, table), "rows": EMBEDDED_ROWS},
            "attention": {
                "prefill_length": tokens,
                "places": places,
                "expected_decode": [round(float(attended[place]), 6) for place in places],
            },
            "prompt_length": min(PROMPT_TOKENS, prefill_chunk_size),
            "tolerance": _tolerance(self.numerics),
        }

    def _leads(self) -> dict[str, tuple[int | str, int | str]]:
        """The leading extents of each function's inputs."""
        if self.numerics.batches:
            return {
                "self_test_prefill": (1, "seq_len"),
                "self_test_batch_decode": ("batch_size", 1),
            }
        return {"self_test_prefill": (1, "seq_len"), "self_test_decode": (1, 1)}

    def _tests(self, *, step: bool) -> list[tuple[Probe, bool]]:
        """Probes of a prompt or of a step, and whether each is with its surroundings."""
        probes = self.probes()
        if step:
            return [(probe, probe.fuses) for probe in probes]
        # Norms of prompts are programs of their own.
        alone = [replace(probe, norm=None) for probe in probes if not probe.logits]
        return [(probe, probe.fuses) for probe in alone]

    def _runs(
        self, described: dict[tuple[Probe, bool], list[dict[str, Any]]], rows: int
    ) -> list[dict[str, Any]]:
        """Which function to call with which rows, and which results it gives."""
        leads = {
            "self_test_prefill": [[1, rows]],
            "self_test_decode": [[1, 1]],
            "self_test_batch_decode": [[1, 1], [BATCH_ROWS, 1]],
        }
        indices: dict[tuple[Probe, bool], list[int]] = {}
        count = 0
        for test, results in described.items():
            indices[test] = list(range(count, count + len(results)))
            count += len(results)
        return [
            {
                "function": function,
                "lead": lead,
                "results": [
                    index
                    for test in self._tests(step=function != "self_test_prefill")
                    for index in indices[test]
                ],
            }
            for function in self._leads()
            for lead in leads[function]
        ]

    def _results(self, inputs: dict[str, Tensor], *, step: bool) -> tuple[Tensor, ...]:
        results = []
        for probe, fused in self._tests(step=step):
            x, hidden = inputs[probe.reads], inputs["hidden"]
            if fused:
                results.append(probe.fused(x, hidden))
                continue
            result = probe.forward(x)
            results.append(result + hidden if probe.residual else result)
            if probe.gated:
                results.append(self.numerics.kernels.gated_silu(result))
        return tuple(results)

    def _describe(self, probe: Probe, fused: bool) -> list[dict[str, Any]]:
        reads = INPUTS.index(probe.reads)
        if isinstance(probe.layer, RMSNorm):
            return [
                {**_described_norm(probe.name, probe.layer), "kind": "rms_norm", "input": reads}
            ]
        linear = {
            "kind": "linear",
            **self._stored(probe.name, probe.layer),
            "input": reads,
            "residual": probe.residual,
            "logits": probe.logits,
        }
        if not fused:
            return [linear, {"kind": "gated_silu"}] if probe.gated else [linear]
        norm = {"norm": _described_norm(*probe.norm)} if probe.norm else {}
        return [{**linear, **norm, "gated": probe.gated}]

    def _stored(self, name: str, layer: Linear) -> dict[str, Any]:
        """How a layer's weight is stored; the layouts are those of docs/development.md."""
        return {
            "parameters": [f"{name}.{stored}" for stored in layer.stored_as],
            "layout": self.numerics.kernels.layout(layer.format),
            "in_features": layer.in_features,
            "out_features": layer.out_features,
        }


def _described_norm(name: str, norm: RMSNorm) -> dict[str, Any]:
    return {"parameters": [f"{name}.weight"], "epsilon": norm.epsilon}


def _tolerance(numerics: Numerics) -> dict[str, float]:
    """What results may differ by.

    `least` is absolute: below the smallest normal number, devices may take a value for zero. `sum` is
    relative to the sum of a product's magnitudes, for float32 sums of any order, of weights that may be
    rounded to the kernels' type; `value` to the value, for its own type; `activation` to a gated value;
    `attention` is absolute. `logits` is relative to their root mean square, between one step and two: a
    rounding that falls to the other side moves all after it, by much where it is to float16, or to int8 as in
    products of quantised weights on CPUs.
    """
    if numerics.dtype == "float16":
        own = {"sum": 5e-4, "value": 2e-3, "least": 2.0**-14, "activation": 2e-2, "attention": 2e-2}
    else:
        own = {
            "sum": 5e-6,
            "value": 1e-5,
            "least": 2.0**-126,
            "activation": 1e-5,
            "attention": 1e-4,
        }
    return {**own, "logits": 0.25 if numerics.kernels.is_coarse else 0.02}
