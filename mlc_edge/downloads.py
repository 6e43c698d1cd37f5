"""Checkpoints, bundles and GGUF files from the Hugging Face Hub."""

import importlib.util
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlc_edge.bundle import LOCK_NAME, SIGNATURE_NAME
from mlc_edge.errors import ConfigError, MlcEdgeError
from mlc_edge.gguf_names import model_name, part_names

HUB_PREFIX = "HF://"
REPOSITORY = re.compile(
    r"HF://(?P<id>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<file>(?:[\w.+,=() -]+/)*[\w.+,=() -]+\.gguf))?"
    r"(?:@(?P<revision>[\w./-]+))?",
    re.IGNORECASE,
)
# Files without code: pickled weights and Python modules stay where they are.
PATTERNS = ("*.json", "*.jinja", "*.safetensors", "*params_shard_*.bin", "tokenizer.model")
LIBRARIES = "lib/*"
# Enough to know who vouches for a bundle.
SIGNED = (LOCK_NAME, SIGNATURE_NAME)
# The same weights once more, for other programs.
DUPLICATES = ("consolidated*", "*/*.safetensors")
# The Hub client's bar that counts the bytes on the disk.
BYTES_BAR = "huggingface_hub.snapshot_download"
MIB = 1 << 20

Progress = Callable[[str, float | None], None]


class DownloadError(MlcEdgeError):
    """A model can't be downloaded."""


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub; `revision` None for its main branch, `file` one of its GGUF files (POSIX)."""

    id: str
    revision: str | None
    file: str | None = None

    @property
    def name(self) -> str:
        """The model's: the file's, or the repository's without its owner's."""
        return model_name(PurePosixPath(self.file).name) if self.file else self.id.partition("/")[2]

    @property
    def parts(self) -> list[str]:
        """The files that the model of `file` is in."""
        place = PurePosixPath(self.file or "")
        return [str(place.with_name(name)) for name in part_names(place.name)]


def parse_repository(model: str) -> Repository:
    """Read "HF://owner/name[/file.gguf][@revision]"; raises ConfigError."""
    match = REPOSITORY.fullmatch(model)
    if not match or ".." in PurePosixPath(match["file"] or "").parts:
        raise ConfigError(
            f"{model!r} names no repository: write HF://owner/name or HF://owner/name/file.gguf, with "
            "@revision behind it for another than the main branch."
        )
    return Repository(match["id"], match["revision"], match["file"])


def download(repository: Repository, report: Progress, *, libraries: bool) -> Path:
    """The repository's folder in the Hub's cache, complete; with or without its compiled libraries.

    Where the repository's `file` is meant, that file, with its other parts beside it.

    A connection that breaks is resumed; files that an earlier, killed download finished are not
    fetched again; without a network, what is in the cache is used. Honours HF_ENDPOINT, HF_HOME,
    HF_TOKEN and HF_HUB_OFFLINE. Raises ConfigError or DownloadError.
    """
    step = f"downloading {repository.id}"
    report(step, None)
    if repository.file:
        return _download_file(repository, repository.file, step, report)
    patterns = (*PATTERNS, SIGNATURE_NAME, *([LIBRARIES] if libraries else []))
    return _download(repository, patterns, step, report)


def _download_file(repository: Repository, file: str, step: str, report: Progress) -> Path:
    folder = _download(repository, repository.parts, step, report)
    missing = [name for name in repository.parts if not (folder / name).is_file()]
    if missing:
        raise DownloadError(
            f"{repository.id} has no file {missing[0]}, or it isn't in the cache and the Hub can't be "
            "reached: check the name, or connect to the internet once."
        )
    return folder / file


def download_signature(repository: Repository, report: Progress) -> Path:
    """The repository's folder in the Hub's cache with at least its lock and signature, if it has them."""
    step = f"asking who signed {repository.id}"
    report(step, None)
    return _download(repository, SIGNED, step, report)


def _download(repository: Repository, patterns: Sequence[str], step: str, report: Progress) -> Path:
    # A second to import, and wanted by those who download only.
    from huggingface_hub import snapshot_download

    with _explained(repository):
        wanted: dict[str, Any] = {
            "repo_id": repository.id,
            "revision": repository.revision,
            "allow_patterns": list(patterns),
            "ignore_patterns": [] if repository.file else list(DUPLICATES),
        }
        missing = _missing_bytes(wanted)
        _check_space(repository, missing)
        bar = _progress_bar(
            lambda count: report(step, min(1.0, count / missing) if missing else None)
        )
        return Path(snapshot_download(**wanted, tqdm_class=bar))


def _missing_bytes(wanted: dict[str, Any]) -> int:
    """Bytes that are not in the cache; 0 if the Hub can't say."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    try:
        files = snapshot_download(**wanted, dry_run=True, tqdm_class=_progress_bar(lambda _: None))
    except DryRunError:
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


def _check_space(repository: Repository, needed: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).expanduser().absolute()
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{repository.id} needs {needed / MIB:,.0f} MiB in {cache}, and {free / MIB:,.0f} MiB are "
            "free: free some, or set HF_HOME to a folder on another disk."
        )


def _progress_bar(count: Callable[[int], None]) -> type[Any]:
    """A class for the Hub's client that shows nothing, and calls `count` with the bytes so far."""
    from huggingface_hub.utils import tqdm

    class SilentBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("name") == BYTES_BAR
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            with self.get_lock():
                self.n += n or 0
                if self._counts and n:
                    count(int(self.n))

    return SilentBar


def _transport_error() -> type[Exception]:
    """What the Hub's client raises for a connection: httpx2's errors, on Python 3.10 those of httpx."""
    name = "httpx2" if importlib.util.find_spec("httpx2") else "httpx"
    error: type[Exception] = importlib.import_module(name).HTTPError
    return error


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    """Turn what the Hub's client raises into errors that say what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repository.id
    try:
        yield
    except HFValidationError as error:
        raise ConfigError(f"{name!r} is no repository's name: write HF://owner/name.") from error
    except GatedRepoError as error:
        raise DownloadError(
            f"{name} is gated: accept its terms on the Hub, then set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{name} has no revision {repository.revision!r}: name a branch, tag or commit."
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"there is no repository {name} on the Hub, or it is private: check the name, or set "
            "HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{name} is not wholly in the cache, and the Hub can't be reached: connect to the "
            "internet once, or copy the folder here and name it."
        ) from error
    except (_transport_error(), OSError) as error:
        raise DownloadError(
            f"downloading {name} failed: {' '.join(str(error).split())}. Try again: files that have "
            "arrived are kept."
        ) from error
