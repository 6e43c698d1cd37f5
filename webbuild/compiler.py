"""From a model definition to a model library: passes, schedules, code generation, linking."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.target import Target

from mlc_edge.bundle import ABI_VERSION
from mlc_edge.errors import ToolchainError
from webbuild.architectures import model_class
from webbuild.kernels.kv_cache import EVERYDAY_PROGRAMS
from webbuild.kernels.sampling import SAMPLING_SPEC, Sampling
from webbuild.kernels.self_test import self_test_for, self_test_vectors
from webbuild.linker import find_linker
from webbuild.models.llama_spec import LlamaConfig
from webbuild.numerics import Numerics
from webbuild.passes import optimise
from webbuild.quantization import find_quantization
from webbuild.targets import TargetProfile

KV_CACHE = "create_tir_paged_kv_cache"
WORKGROUP_ARRAY = re.compile(r"var<workgroup> \w+ ?: ?array<(?:vec(\d)<)?(\w+)>?, ?(\d+)>")
# Without symbols for debuggers, and the same bytes each time.
LINK_OPTIONS = ["-shared", "-s", "-Wl,--build-id=none"]
WGSL_BYTES = {"f32": 4, "i32": 4, "u32": 4, "f16": 2}


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Sizes in tokens; `dump_ir` is a folder for the module after each phase."""

    context_window_size: int
    prefill_chunk_size: int
    dump_ir: Path | None = None


@dataclass(frozen=True)
class LibraryInfo:
    """What a device must offer to run a library."""

    parameter_bytes: int
    needs: dict[str, Any]


def build_library(
    config: LlamaConfig,
    quantization: str,
    profile: TargetProfile,
    output: Path,
    options: CompileOptions,
) -> LibraryInfo:
    """Compile `config`'s model for `profile` into the library `output`.

    Raises ToolchainError when a compiler or linker fails.
    """
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        module, parameters = _export(config, quantization, profile)
        metadata = _metadata(config, quantization, profile, parameters, options)
        compiled = _compile(module, {**metadata, "kernels": {}}, target, profile, options)
        if profile.device == "gpu":
            # Kernels get their names in code generation, and the metadata is compiled in.
            kernels = _kernels_by_stage(
                compiled.launched, list(_device_sources(compiled.executable))
            )
            compiled = _compile(module, {**metadata, "kernels": kernels}, target, profile, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    _link(compiled.executable, profile, output)
    return LibraryInfo(
        parameter_bytes=sum(_bytes_of(p) for p in metadata["params"]),
        needs=_needs(profile, metadata, options, _device_sources(compiled.executable)),
    )


def compile_kernels(
    config: LlamaConfig, quantization: str, profile: TargetProfile, options: CompileOptions
) -> dict[str, str]:
    """WGSL of each of the library's kernels by name, without linking a library."""
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        module, parameters = _export(config, quantization, profile)
        metadata = _metadata(config, quantization, profile, parameters, options)
        compiled = _compile(module, {**metadata, "kernels": {}}, target, profile, options)
    return _device_sources(compiled.executable)


def _export(
    config: LlamaConfig, quantization: str, profile: TargetProfile
) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
    numerics = _numerics(quantization, profile)
    self_test = self_test_for(numerics)
    library = type("Library", (model_class(config.model_type), Sampling, self_test), {})
    model = library(config, numerics)
    spec = {**model.export_spec(), **SAMPLING_SPEC, **self_test.spec}
    # The export takes entries out of the methods' dictionaries.
    return model.export_tvm(spec={name: dict(method) for name, method in spec.items()})


def _numerics(quantization: str, profile: TargetProfile) -> Numerics:
    interleaved = profile.interleaves(quantization)
    return Numerics(
        quantization=quantization,
        dtype=profile.dtype,
        scale_dtype=find_quantization(quantization).dtype if interleaved else profile.dtype,
        dot_product=profile.dot_product if interleaved else None,
        on_cpu=profile.device == "cpu",
    )


def _metadata(
    config: LlamaConfig,
    quantization: str,
    profile: TargetProfile,
    parameters: list[tuple[str, nn.Parameter]],
    options: CompileOptions,
) -> dict[str, Any]:
    return {
        "abi_version": ABI_VERSION,
        "model_type": config.model_type,
        "quantization": quantization,
        "dtype": profile.dtype,
        "kv_state_kind": "kv_cache",
        "context_window_size": options.context_window_size,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "prefill_chunk_size": options.prefill_chunk_size,
        "max_batch_size": profile.max_batch_size,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "disaggregation": False,
        "params": [
            {
                "name": name,
                "shape": [int(extent) for extent in parameter.shape],
                "dtype": str(parameter.dtype),
                "preprocs": [],
                "pipeline_stages": [0],
            }
            for name, parameter in parameters
        ],
        "memory_usage": {},
        "attention": {
            "num_hidden_layers": config.num_hidden_layers,
            "num_key_value_heads": config.num_key_value_heads,
            "num_attention_heads": config.num_attention_heads,
            "head_dim": config.head_dim,
        },
        "self_test": self_test_vectors(config, _numerics(quantization, profile)),
    }


@dataclass(frozen=True)
class _Compiled:
    executable: Any
    launched: dict[str, list[str]]


def _compile(
    module: tvm.IRModule,
    metadata: dict[str, Any],
    target: Target,
    profile: TargetProfile,
    options: CompileOptions,
) -> _Compiled:
    bounds = {"seq_len": options.prefill_chunk_size, "batch_size": profile.max_batch_size}
    module, launched, memory_usage = optimise(
        module, profile, bounds=bounds, dump_ir=options.dump_ir
    )
    module = _with_metadata(module, {**metadata, "memory_usage": memory_usage})
    executable = tvm.compile(module, target=target, relax_pipeline=None)
    return _Compiled(executable, launched)


def _with_metadata(module: tvm.IRModule, metadata: dict[str, Any]) -> tvm.IRModule:
    builder = relax.BlockBuilder(module)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata, separators=(",", ":"))))
    return relax.transform.AttachGlobalSymbol()(builder.get())


def _walk_modules(module: Any) -> Iterator[Any]:
    yield module
    for imported in module.imports:
        yield from _walk_modules(imported)


def _device_sources(executable: Any) -> dict[str, str]:
    """WGSL of each kernel by its name; empty for a CPU."""
    sources: dict[str, str] = {}
    for module in _walk_modules(executable.mod):
        if module.kind == "webgpu":
            for part in module.inspect_source().split("// Function: ")[1:]:
                name, _, source = part.partition("\n")
                sources[name.strip()] = source
    return sources


def _workgroup_bytes(source: str) -> int:
    """Workgroup memory that a kernel declares."""
    return sum(
        int(lanes or 1) * int(count) * WGSL_BYTES[element]
        for lanes, element, count in WORKGROUP_ARRAY.findall(source)
    )


def _kernels_by_stage(launched: dict[str, list[str]], kernels: list[str]) -> dict[str, list[str]]:
    def launched_by(function: str) -> list[str]:
        programs = launched[function]
        return [p for p in programs if function != KV_CACHE or p in EVERYDAY_PROGRAMS]

    def of(prim_function: str) -> list[str]:
        stem = f"{prim_function}_kernel"
        return [k for k in kernels if k == stem or k.removeprefix(f"{stem}_").isdigit()]

    stages = {
        "prefill": ("embed", "prefill"),
        "decode": ("embed", "decode"),
        "kv_cache": (KV_CACHE,),
        "self_test": ("self_test_matmul", "self_test_attention"),
        "sampling": tuple(SAMPLING_SPEC),
    }
    return {
        stage: list(dict.fromkeys(k for f in functions for p in launched_by(f) for k in of(p)))
        for stage, functions in stages.items()
    }


def _link(executable: Any, profile: TargetProfile, output: Path) -> None:
    try:
        if profile.linker == "wasm":
            from webbuild.wasm.link import link

            executable.export_library(str(output), fcompile=link)
        else:
            from tvm.support import cc

            executable.export_library(
                str(output), fcompile=cc.cross_compiler(find_linker(profile), options=LINK_OPTIONS)
            )
    except RuntimeError as error:
        raise ToolchainError(f"linking {output.name} failed: {error}") from error


def _bytes_of(parameter: dict[str, Any]) -> int:
    size = {"uint8": 1, "uint32": 4, "float32": 4, "float16": 2}[parameter["dtype"]]
    for extent in parameter["shape"]:
        size *= extent
    return size


def _needs(
    profile: TargetProfile,
    metadata: dict[str, Any],
    options: CompileOptions,
    sources: dict[str, str],
) -> dict[str, Any]:
    if profile.device == "cpu":
        return {"features": list(profile.features), "limits": {}}
    attention = metadata["attention"]
    element = 2 if profile.dtype == "float16" else 4
    tokens = options.context_window_size + 2 * options.prefill_chunk_size
    pages = 2 * attention["num_key_value_heads"] * attention["head_dim"] * tokens * element
    largest = max(pages, *(_bytes_of(p) for p in metadata["params"]))
    return {
        "features": list(profile.features),
        "limits": {
            "maxStorageBufferBindingSize": largest,
            "maxBufferSize": largest,
            "maxComputeInvocationsPerWorkgroup": profile.tvm_target["max_num_threads"],
            "maxStorageBuffersPerShaderStage": max(
                source.count("var<storage") for source in sources.values()
            ),
            "maxComputeWorkgroupStorageSize": max(map(_workgroup_bytes, sources.values())),
        },
    }
