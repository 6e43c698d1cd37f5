"""Checkpoint in, bundle out: weights, configuration, libraries and lock, all or nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlc_edge.bundle import (
    BundleLock,
    BundleTarget,
    ModelInfo,
    Needs,
    is_valid_id,
    lock_files,
    write_lock,
)
from mlc_edge.errors import ConfigError
from mlc_edge.files import FileState
from mlc_edge.folders import replacing
from mlc_edge.signing import SigningKey
from mlc_edge.verification import remember
from webbuild.chat_config import chat_config
from webbuild.checkpoint import Checkpoint
from webbuild.conv_template import MLC_LLM, WEB_LLM, derive_conv_template
from webbuild.destination import check_destination, check_space, find_same_build
from webbuild.effort import Rounding, check_calibration, measure_quality, open_quantizer
from webbuild.fingerprint import build_fingerprint
from webbuild.gguf.native import fitted, native_formats, native_quantization, rounding_warnings
from webbuild.interleaved import INTERLEAVED_INDEX, interleave
from webbuild.models.spec import parameter_count
from webbuild.published import PublishedWeights, holds_published_weights, open_published
from webbuild.quality.divergence import Agreement
from webbuild.quantization.choices import QuantRule, choose_formats, matching
from webbuild.quantization.encode import is_rounded
from webbuild.quantization.formats import Q4, WeightFormats, find_quantization
from webbuild.size import formats_for_size
from webbuild.sources import open_source
from webbuild.targets import TargetProfile, profiles_for
from webbuild.tensor_cache import TENSOR_CACHE_NAME, plan_weights, write_weights
from webbuild.toolchain import describe, require_tools
from webbuild.wasm.runtime import runtime_objects

DEFAULT_QUANTIZATION = "q4f16_1"
DEFAULT_CONTEXT = 4096
DEFAULT_PREFILL_CHUNK = 512
# Room for a library, tokenizer and configuration, on top of the weights.
LIBRARY_BYTES = 16 << 20
NOTHING_TO_ROUND = Rounding("fast")


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build; sizes in tokens, None for the default; `sign` names a private key's file.

    `quant_rules` prevail over the quantisation; with `mlc_compatible`, all weights are in formats of MLC's.
    `rounding` says how levels and scales are found; `size` are bytes of a parameter set, which formats are
    then chosen for; `measure` asks what rounding did to the model.
    """

    checkpoint: Path
    output: Path
    targets: tuple[str, ...] = ("webgpu",)
    quantization: str | None = None
    quant_rules: tuple[QuantRule, ...] = ()
    mlc_compatible: bool = False
    rounding: Rounding = field(default_factory=Rounding)
    size: int | None = None
    measure: bool = True
    context_window_size: int | None = None
    prefill_chunk_size: int | None = None
    sign: Path | None = None
    dump_ir: Path | None = None


class Progress:
    """Told what a build does; this one keeps it to itself."""

    def stage(self, text: str, total_bytes: int = 0) -> None:
        """A step begins; `total_bytes` is what it will write, 0 if unknown."""

    def advance(self, count: int) -> None:
        """The step has written `count` more bytes."""

    def warn(self, text: str) -> None:
        """The bundle will not do all that one might expect of it."""


@dataclass(frozen=True)
class BuildResult:
    """The bundle's lock, whether the very same bundle was there before, and what rounding did to the model.

    `quality` is None where nothing was rounded, or the bundle was there.
    """

    lock: BundleLock
    up_to_date: bool
    quality: Agreement | None = None


@dataclass(frozen=True)
class _Plan:
    request: BuildRequest
    source: Checkpoint | PublishedWeights
    formats: WeightFormats
    profiles: tuple[TargetProfile, ...]
    context_window_size: int
    prefill_chunk_size: int


def build(request: BuildRequest, progress: Progress | None = None) -> BuildResult:
    """Make a bundle at `request.output`; a build that fails leaves things as they were.

    Raises MlcEdgeError: a flag, the checkpoint, the output folder or a tool is not as it must be.
    """
    progress = progress or Progress()
    key = SigningKey.load(request.sign) if request.sign else None
    plan = _plan(request)
    fingerprint = build_fingerprint(
        request.checkpoint,
        (
            plan.formats.describe(),
            request.rounding.effort,
            request.rounding.text_hash or "",
            str(request.size or ""),
            *map(describe, plan.profiles),
            request.output.resolve().name,
            str(plan.context_window_size),
            str(plan.prefill_chunk_size),
        ),
    )
    existing = None if request.dump_ir else find_same_build(request.output, fingerprint)
    if existing:
        if key:
            key.sign(request.output)
        return BuildResult(existing, up_to_date=True)
    if isinstance(plan.source, Checkpoint):
        check_calibration(request.rounding, plan.source, progress.warn)
    plan = _fit_size(plan, progress)
    check_space(request.output, _weight_bytes(plan) + LIBRARY_BYTES * len(plan.profiles))
    with replacing(request.output) as folder:
        _prepare_runtime(plan, progress)
        rounded = _write_weights(plan, folder, progress)
        _write_interleaved(plan, folder, progress)
        _write_chat_files(plan, rounded.note, folder, progress)
        targets = {
            profile.name: _compile(plan, profile, folder, progress) for profile in plan.profiles
        }
        states: dict[str, FileState] = {}
        files = lock_files(folder, states)
        lock = BundleLock(_model_info(plan), files, targets, build_inputs=fingerprint)
        write_lock(folder, lock)
        if key:
            key.sign(folder)
        remember(folder, states)
    return BuildResult(lock, up_to_date=False, quality=rounded.quality)


def _plan(request: BuildRequest) -> _Plan:
    """Check everything that can be checked before work begins."""
    asked = find_quantization(request.quantization or DEFAULT_QUANTIZATION)
    for target in request.targets:
        profiles_for(target, asked.name)
    if not is_valid_id(request.output.resolve().name):
        raise ConfigError(
            f"--output {request.output}: the folder's name becomes the model's id and part of its "
            "URL: use letters, digits, '.', '_' and '-'."
        )
    check_destination(request.output)
    source = _open(request)
    formats = _choose_formats(request, source)
    quantization = formats.quantization.name
    found = [p for target in request.targets for p in profiles_for(target, quantization)]
    if request.mlc_compatible:
        # MLC's runtimes take parameters as they are stored.
        found = [replace(profile, max_binding_bytes=None) for profile in found]
    profiles = tuple({profile.name: profile for profile in found}.values())
    for profile in profiles:
        require_tools(profile)
    context = _context_window_size(request, source.model.context_length)
    chunk = min(request.prefill_chunk_size or DEFAULT_PREFILL_CHUNK, context)
    return _Plan(request, source, formats, profiles, context, chunk)


def _open(request: BuildRequest) -> Checkpoint | PublishedWeights:
    if holds_published_weights(request.checkpoint):
        return open_published(request.checkpoint, request.quantization)
    return open_source(request.checkpoint)


def _choose_formats(request: BuildRequest, source: Checkpoint | PublishedWeights) -> WeightFormats:
    if isinstance(source, PublishedWeights):
        rounding = request.rounding != Rounding()
        if request.quant_rules or request.mlc_compatible or request.size or rounding:
            raise ConfigError(
                f"{request.checkpoint} holds quantised weights, which stay as they are: leave --quant-rule, "
                "--quant-effort, --calibration, --size and --mlc-compatible out, or build from the original "
                "checkpoint."
            )
        return source.formats
    _check_rounding(request)
    quantization = find_quantization(request.quantization or DEFAULT_QUANTIZATION)
    native = {}
    if request.quantization is None and not request.mlc_compatible:
        native = native_formats(source.table, source.tensors)
        quantization = native_quantization(source.table, native) if native else quantization
    return choose_formats(
        source.table,
        quantization,
        native=native,
        rules=request.quant_rules,
        mlc_compatible=request.mlc_compatible,
    )


def _check_rounding(request: BuildRequest) -> None:
    """Raise ConfigError for flags that contradict each other."""
    rounding, asked = request.rounding, request.quantization
    if request.size and (request.mlc_compatible or rounding.effort == "fast"):
        raise ConfigError(
            "--size takes what measurements on a text recommend: leave --mlc-compatible and --quant-effort "
            "fast out."
        )
    if request.size and asked and find_quantization(asked).linear != Q4:
        raise ConfigError(
            f"--size chooses formats itself, and --quant {asked} names another: leave one of them out."
        )
    if rounding.calibration and rounding.effort == "fast":
        raise ConfigError("--quant-effort fast needs no text: leave --calibration out.")


def _fit_size(plan: _Plan, progress: Progress) -> _Plan:
    """With formats for the size that is asked for, if any."""
    request, source = plan.request, plan.source
    if request.size is None or isinstance(source, PublishedWeights):
        return plan
    progress.stage("measuring what each weight costs in 4 bits")
    settled = [name for rule in request.quant_rules for name in matching(source.table, rule)]
    formats = formats_for_size(
        source,
        plan.formats,
        size=request.size,
        rounding=request.rounding,
        interleaved={profile.interleaves(plan.formats) for profile in plan.profiles},
        settled=settled,
    )
    return replace(plan, formats=formats)


def _context_window_size(request: BuildRequest, longest: int) -> int:
    wanted = request.context_window_size
    if wanted is not None and wanted > longest:
        raise ConfigError(
            f"--context-window-size {wanted} is more than the {longest} tokens that the model was "
            "trained for: ask for that or less."
        )
    return wanted or min(longest, DEFAULT_CONTEXT)


def _weight_bytes(plan: _Plan) -> int:
    if isinstance(plan.source, PublishedWeights):
        return plan.source.total_bytes
    return plan_weights(plan.source.table, plan.formats).total_bytes


def _prepare_runtime(plan: _Plan, progress: Progress) -> None:
    """Compile what libraries are linked with: it fails sooner than quantising takes."""
    if any(profile.linker == "wasm" for profile in plan.profiles):
        progress.stage("preparing TVM's WebAssembly runtime (about a minute the first time)")
        runtime_objects()


@dataclass(frozen=True)
class _Rounded:
    """What rounding did to the model, if that was measured, and how it was done, for who wonders later."""

    quality: Agreement | None
    note: Mapping[str, str]


def _write_weights(plan: _Plan, folder: Path, progress: Progress) -> _Rounded:
    if isinstance(plan.source, PublishedWeights):
        progress.stage("copying weights", plan.source.total_bytes)
        plan.source.copy_weights(folder, progress.advance)
        return _Rounded(None, plan.source.rounding)
    table, tensors, quantization = (
        plan.source.table,
        plan.source.tensors,
        plan.formats.quantization,
    )
    for sentence in rounding_warnings(table, tensors, plan.formats):
        progress.warn(sentence)
    weights = plan_weights(table, plan.formats)
    progress.stage(f"writing {quantization.name} weights", weights.total_bytes)
    sources = fitted(table, tensors, plan.formats)
    is_any_rounded = any(is_rounded(spec, sources, plan.formats) for spec in table)
    rounding = plan.request.rounding if is_any_rounded else NOTHING_TO_ROUND
    with open_quantizer(rounding, plan.source, plan.formats, progress.warn) as quantizer:
        write_weights(
            folder, weights, sources, quantizer, progress.advance, block_bytes=rounding.block_bytes
        )
    if not is_any_rounded:
        return _Rounded(None, {})
    note = _rounding_note(rounding, is_calibrated=quantizer.is_calibrated)
    if not plan.request.measure:
        return _Rounded(None, note)
    progress.stage("measuring what rounding did")
    return _Rounded(measure_quality(plan.source, folder), note)


def _rounding_note(rounding: Rounding, *, is_calibrated: bool) -> dict[str, str]:
    text = rounding.text_hash if is_calibrated else None
    return {"effort": rounding.effort, **({"calibration_sha256": text} if text else {})}


def _write_interleaved(plan: _Plan, folder: Path, progress: Progress) -> None:
    """Add the parameter set of CPUs where one is wanted; drop the standard one if nothing reads it."""
    wants = {profile.interleaves(plan.formats) for profile in plan.profiles}
    if True not in wants:
        return
    progress.stage("interleaving weights for CPUs", _weight_bytes(plan))
    interleave(folder, progress.advance)
    if False not in wants:
        for path in (folder / TENSOR_CACHE_NAME, *folder.glob("params_shard_*.bin")):
            path.unlink()


def _write_chat_files(
    plan: _Plan, rounding: Mapping[str, str], folder: Path, progress: Progress
) -> None:
    chat = plan.source.chat
    conv_template = derive_conv_template(chat)
    for runtime in sorted(_mlc_runtimes(plan) & conv_template.problems.keys()):
        progress.warn(
            f"{runtime} can't chat with this bundle as the model's chat template says: "
            f"{conv_template.problems[runtime]}, in the fields of MLC's conv_template."
        )
    contents = {
        "tokenizer.json": chat.tokenizer,
        "tokenizer_config.json": chat.tokenizer_config,
        "generation_config.json": chat.generation_config,
        "mlc-chat-config.json": chat_config(
            plan.source.model,
            chat,
            conv_template=conv_template.fields,
            quantization=plan.formats.quantization.name,
            context_window_size=plan.context_window_size,
            prefill_chunk_size=plan.prefill_chunk_size,
            rounding=rounding,
        ),
    }
    for name, content in contents.items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _mlc_runtimes(plan: _Plan) -> set[str]:
    """MLC's runtimes that can load one of the bundle's libraries with its weights."""
    return {
        WEB_LLM if profile.in_browsers else MLC_LLM
        for profile in plan.profiles
        if not profile.interleaves(plan.formats) and profile.device not in ("vulkan", "cuda")
    }


def _compile(plan: _Plan, profile: TargetProfile, folder: Path, progress: Progress) -> BundleTarget:
    # TVM takes a second to load: nothing that ends before this line should wait for it.
    from webbuild.compiler import CompileOptions, build_library

    progress.stage(f"compiling {profile.library}")
    dump_ir = plan.request.dump_ir
    options = CompileOptions(
        context_window_size=plan.context_window_size,
        prefill_chunk_size=plan.prefill_chunk_size,
        dump_ir=dump_ir / profile.name if dump_ir else None,
    )
    library = folder / profile.library
    info = build_library(plan.source.model, plan.formats, profile, library, options)
    needs = Needs(profile.features, info.limits, {**profile.adapter, **info.adapter})
    interleaved = profile.interleaves(plan.formats)
    index = INTERLEAVED_INDEX if interleaved else TENSOR_CACHE_NAME
    return BundleTarget(profile.device, profile.library, index, info.parameter_bytes, needs)


def _model_info(plan: _Plan) -> ModelInfo:
    return ModelInfo(
        id=plan.request.output.resolve().name,
        model_type=plan.source.model.model_type,
        quantization=plan.formats.quantization.name,
        context_window_size=plan.context_window_size,
        parameters=parameter_count(plan.source.table),
        formats=plan.formats.counts(plan.source.table),
    )
