"""From what a person calls a model to a bundle that this machine can run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.bundle import LOCK_NAME, BundleLock, read_lock
from mlc_edge.compiled import Progress, compiled_bundle
from mlc_edge.downloads import (
    HUB_PREFIX,
    Repository,
    download,
    download_signature,
    parse_repository,
)
from mlc_edge.errors import ConfigError
from mlc_edge.files import hub_repository
from mlc_edge.gguf_names import is_gguf, model_name
from mlc_edge.trust import Trust
from mlc_edge.verification import check_bundle

PACKAGE = Path(__file__).parent
# The embedded checkpoint: in a checkout, or as data of an installed package.
EMBEDDED = (PACKAGE.parent / "models/pocket", PACKAGE / "pocket")
WEIGHT_INDEXES = ("mlc-chat-config.json", "config.json")
# The target of browsers: any of a bundle's browser libraries does.
BROWSER = "webgpu"
TRUST_HINT = (
    "To run the libraries that it brings, if you trust who made them: --trust-library, or list their key in "
    "trusted_key."
)


@dataclass(frozen=True)
class _Source:
    """A model's folder or GGUF file, and what to call what is made of it."""

    path: Path
    name: str


def resolve_model(
    model: str | Path | None = None,
    *,
    target: str | None = None,
    progress: Progress | None = None,
    trust_library: bool = False,
    trusted_keys: Sequence[str] = (),
) -> Path:
    """The bundle folder of `model`, downloaded, verified, and compiled first if need be.

    `model` is a bundle, a folder with a Hugging Face checkpoint or MLC weights, a GGUF file,
    "HF://owner/name" or "HF://owner/name/file.gguf" (with "@revision" if wanted), or None for the
    embedded model. Checkpoints and GGUF files are compiled once, for `target` (default: this machine's CPU,
    and its GPU if that may be faster), and kept in the user's cache. So are the weights of a bundle that
    came over the network: its own libraries run only with `trust_library`, or if one of `trusted_keys`
    (texts of public keys) signed it. With trusted keys, what none of them signed is refused, but for
    checkpoints on this machine. Raises MlcEdgeError.
    """
    report = progress or (lambda step, share: None)
    trust = Trust.of(trust_library, trusted_keys)
    source = _find(model, trust, report)
    if (source.path / LOCK_NAME).exists():
        trusted = trust.runs_libraries_of(source.path)
        if trusted and _serves(read_lock(source.path), target):
            check_bundle(source.path, report)
            return source.path
        # What is built of a bundle is held to its lock.
        hint = "" if trusted else TRUST_HINT
        targets = target or _own_targets()
        return compiled_bundle(source.path, source.name, targets, report=report, hint=hint)
    is_file = source.path.is_file()
    if not is_file and not any((source.path / name).is_file() for name in WEIGHT_INDEXES):
        raise ConfigError(
            f"{source.path} is neither a bundle (no {LOCK_NAME}) nor a checkpoint (no config.json): "
            "name one of them, HF://owner/name, or a GGUF file (HF://owner/name/file.gguf)."
        )
    trust.require_source(source.path)
    return compiled_bundle(source.path, source.name, target or _own_targets(), report=report)


def _own_targets() -> str:
    # Asking for GPUs takes a second, and who serves browsers needs no model runner.
    from mlc_edge.devices import own_targets

    return own_targets()


def _serves(lock: BundleLock, target: str | None) -> bool:
    """Whether the bundle is meant for `target`; a device that it has nothing for says so itself."""
    return target != BROWSER or lock.runs_in_browsers


def _find(model: str | Path | None, trust: Trust, report: Progress) -> _Source:
    if model is None:
        embedded = _embedded()
        return _Source(embedded, embedded.name)
    if str(model).startswith(HUB_PREFIX):
        repository = parse_repository(str(model))
        return _Source(_download(repository, trust, report), repository.name)
    folder = Path(model).expanduser()
    if is_gguf(folder.name) and folder.is_file():
        # Links are kept: the file of a Hub's cache, and parts beside it, have their names there.
        return _Source(folder.parent.resolve() / folder.name, model_name(folder.name))
    if not folder.is_dir():
        kind = "file" if is_gguf(folder.name) else "folder"
        raise ConfigError(
            f"there is no {kind} {folder}: name a bundle, a checkpoint folder, a GGUF file, HF://owner/name, "
            "or nothing for the embedded model."
        )
    folder = folder.resolve()
    cached = hub_repository(folder)
    return _Source(folder, cached.name.rpartition("--")[2] if cached else folder.name)


def _download(repository: Repository, trust: Trust, report: Progress) -> Path:
    if trust.keys:
        # Before gigabytes arrive that nobody may use.
        trust.runs_libraries_of(download_signature(repository, report))
    return download(repository, report, libraries=trust.library or bool(trust.keys))


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError("this installation lacks the embedded model: name another one.")
