"""From a model definition to a model library: passes, schedules, code generation, linking."""

import json
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
from mlc_edge.weight_index import FIRST_ROW
from webbuild.architectures import model_class, parameter_table
from webbuild.chat_config import model_config
from webbuild.cuda.compiler import find_compiler
from webbuild.cuda.packing import leave_source, pack_with_ptx
from webbuild.kernels.choice import kernels_for
from webbuild.kernels.drawing import DRAWING_FUNCTIONS, Drawing, drawing_spec
from webbuild.kernels.kv_cache import EVERYDAY_PROGRAMS, cache_buffers
from webbuild.kernels.sampling import SAMPLING_FUNCTIONS, Sampling, sampling_spec
from webbuild.layers import PIECE_OF
from webbuild.linker import find_linker
from webbuild.models.llama_spec import LlamaConfig
from webbuild.needs import Buffers, gpu_limits, parameter_bytes, pooled
from webbuild.numerics import Numerics
from webbuild.passes import Optimised, optimise
from webbuild.quantization.formats import WeightFormats
from webbuild.self_test import SelfTest
from webbuild.targets import TargetProfile

KV_CACHE = "create_tir_paged_kv_cache"
# What each stage of a browser's engine calls.
STAGES = {
    "prefill": ("embed", "prefill"),
    "decode": ("embed", "decode"),
    "kv_cache": (KV_CACHE,),
    "self_test": ("self_test_prefill", "self_test_decode", "self_test_attention"),
    "drawing": DRAWING_FUNCTIONS,
    "sampling": SAMPLING_FUNCTIONS,
}
# Without symbols for debuggers, and the same bytes each time.
LINK_OPTIONS = ["-shared", "-s", "-Wl,--build-id=none"]


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Sizes in tokens; `dump_ir` is a folder for the module after each phase."""

    context_window_size: int
    prefill_chunk_size: int
    dump_ir: Path | None = None


@dataclass(frozen=True)
class LibraryInfo:
    """What a device must offer to run a library; `adapter` beside what its target asks for."""

    parameter_bytes: int
    limits: dict[str, int]
    adapter: dict[str, int]


def build_library(
    config: LlamaConfig,
    formats: WeightFormats,
    profile: TargetProfile,
    output: Path,
    options: CompileOptions,
) -> LibraryInfo:
    """Compile `config`'s model for `profile` into the library `output`.

    Raises ToolchainError when a compiler or linker fails.
    """
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        exported = _export(config, formats, profile)
        metadata = _metadata(exported, config, formats, profile, options)
        optimised = _optimise(exported, profile, options)
        programs = _programs_by_stage(optimised.launched)
        executable = _generate(optimised, {**metadata, "kernels": programs}, target)
        sources = device_sources(executable)
        buffers = _buffers(exported, optimised, metadata, options)
        limits = gpu_limits(sources.values(), buffers) if sources else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    return LibraryInfo(
        parameter_bytes=sum(map(parameter_bytes, metadata["params"])),
        limits=limits,
        adapter=_link(executable, profile, output),
    )


def compile_kernels(
    config: LlamaConfig, formats: WeightFormats, profile: TargetProfile, options: CompileOptions
) -> dict[str, str]:
    """WGSL of each of the library's kernels by name, without linking a library."""
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        exported = _export(config, formats, profile)
        metadata = _metadata(exported, config, formats, profile, options)
        executable = _generate(_optimise(exported, profile, options), metadata, target)
    return device_sources(executable)


@dataclass(frozen=True)
class _Exported:
    """A model, its functions and its parameters by name, in the order in which functions take them."""

    model: Any
    module: tvm.IRModule
    parameters: list[tuple[str, nn.Parameter]]


def _export(config: LlamaConfig, formats: WeightFormats, profile: TargetProfile) -> _Exported:
    parts = (model_class(config.model_type), Sampling, Drawing, SelfTest)
    model = type("Library", parts, {})(config, _numerics(config, formats, profile))
    spec = {**model.export_spec(), **sampling_spec(config.vocab_size), **model.self_test_spec()}
    if model.numerics.kernels.draws:
        spec |= drawing_spec(config.vocab_size)
    # The export takes entries out of the methods' dictionaries.
    copied = {name: dict(method) for name, method in spec.items()}
    return _Exported(model, *model.export_tvm(spec=copied))


def _numerics(config: LlamaConfig, formats: WeightFormats, profile: TargetProfile) -> Numerics:
    return Numerics(
        formats=formats.by_layer(parameter_table(config)),
        kernels=kernels_for(profile, formats),
        batches=not profile.in_browsers,
    )


def _metadata(
    exported: _Exported,
    config: LlamaConfig,
    formats: WeightFormats,
    profile: TargetProfile,
    options: CompileOptions,
) -> dict[str, Any]:
    chunk = options.prefill_chunk_size
    return {
        "abi_version": ABI_VERSION,
        "model_type": config.model_type,
        "quantization": formats.quantization.name,
        "dtype": profile.dtype,
        "vocab_size": config.vocab_size,
        "kv_state_kind": "kv_cache",
        "context_window_size": options.context_window_size,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "prefill_chunk_size": chunk,
        "max_batch_size": profile.max_batch_size,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "disaggregation": False,
        "params": [
            {
                **_stored_tensor(name, parameter),
                "shape": [int(extent) for extent in parameter.shape],
                "dtype": str(parameter.dtype),
                "preprocs": [],
                "pipeline_stages": [0],
            }
            for name, parameter in exported.parameters
        ],
        "kv_cache": {
            "num_hidden_layers": config.num_hidden_layers,
            "num_key_value_heads": config.num_key_value_heads,
            "num_attention_heads": config.num_attention_heads,
            "head_dim": config.head_dim,
        },
        # Whether there are the functions of the stage "drawing".
        "draws": exported.model.numerics.kernels.draws,
        "kernels": {},
        "model_config": model_config(config, options.context_window_size, chunk),
        "self_test": exported.model.self_test_metadata(config, chunk),
    }


def _stored_tensor(name: str, parameter: nn.Parameter) -> dict[str, Any]:
    """What a parameter is called in the index of weights, and where in that tensor it begins."""
    stored = parameter.attrs.get(PIECE_OF)
    if stored is None:
        return {"name": name}
    layer, _, _ = name.rpartition(".")
    return {"name": f"{layer}.{stored}", FIRST_ROW: parameter.attrs[FIRST_ROW]}


def _optimise(exported: _Exported, profile: TargetProfile, options: CompileOptions) -> Optimised:
    bounds = {"seq_len": options.prefill_chunk_size, "batch_size": profile.max_batch_size}
    return optimise(
        exported.module, exported.model.numerics.kernels, bounds=bounds, dump_ir=options.dump_ir
    )


def _generate(optimised: Optimised, metadata: dict[str, Any], target: Target) -> Any:
    """Machine code and kernels, with `metadata` in them."""
    module = _with_metadata(optimised.module, {**metadata, "memory_usage": optimised.memory_usage})
    if target.kind.name == "cuda":
        leave_source()
    return tvm.compile(module, target=target, relax_pipeline=None)


def _with_metadata(module: tvm.IRModule, metadata: dict[str, Any]) -> tvm.IRModule:
    builder = relax.BlockBuilder(module)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata, separators=(",", ":"))))
    return relax.transform.AttachGlobalSymbol()(builder.get())


def _walk_modules(module: Any) -> Iterator[Any]:
    yield module
    for imported in module.imports:
        yield from _walk_modules(imported)


def device_sources(executable: Any) -> dict[str, str]:
    """WGSL of each kernel by its name; empty for a CPU."""
    sources: dict[str, str] = {}
    for module in _walk_modules(executable.mod):
        if module.kind == "webgpu":
            for part in module.inspect_source().split("// Function: ")[1:]:
                name, _, source = part.partition("\n")
                sources[name.strip()] = source
    return sources


def _programs_by_stage(launched: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names of programs; those of their kernels, which code generation makes, begin with them."""

    def launched_by(function: str) -> list[str]:
        programs = launched.get(function, [])
        return [p for p in programs if function != KV_CACHE or p in EVERYDAY_PROGRAMS]

    return {
        stage: list(dict.fromkeys(p for f in functions for p in launched_by(f)))
        for stage, functions in STAGES.items()
    }


def _link(executable: Any, profile: TargetProfile, output: Path) -> dict[str, int]:
    """Write the library; returns minima of an adapter that follow from what compiled its kernels."""
    try:
        if profile.linker == "wasm":
            from webbuild.wasm.link import link

            executable.export_library(str(output), fcompile=link)
            return {}
        from tvm.support import cc

        link_shared = cc.cross_compiler(find_linker(profile), options=LINK_OPTIONS)
        if profile.device != "cuda":
            executable.export_library(str(output), fcompile=link_shared)
            return {}
        compiler = find_compiler(profile.name)
        pack = pack_with_ptx(
            lambda source: compiler.compile(source, profile.adapter["computeCapability"])
        )
        executable.export_library(str(output), fcompile=link_shared, fpack_imports=pack)
        return {"cudaVersion": compiler.version}
    except RuntimeError as error:
        raise ToolchainError(f"linking {output.name} failed: {error}") from error


def _buffers(
    exported: _Exported,
    optimised: Optimised,
    metadata: dict[str, Any],
    options: CompileOptions,
) -> Buffers:
    """What a browser's engine makes for one sequence that fills the context."""
    cache = cache_buffers(
        exported.model.cache_shape(),
        exported.model.numerics.kernels,
        sequences=1,
        tokens=options.context_window_size,
        chunk=options.prefill_chunk_size,
    )
    called = {name for functions in STAGES.values() for name in functions} - set(SAMPLING_FUNCTIONS)
    temporaries = (
        pooled(size)
        for name, sizes in optimised.allocations.items()
        for size in sizes
        if name in called
    )
    parameters = map(parameter_bytes, metadata["params"])
    return Buffers(bound=(*parameters, *temporaries, *cache.bound), others=cache.others)
