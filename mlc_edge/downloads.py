"""Checkpoints and bundles from the Hugging Face Hub."""

import re
from collections.abc import Callable
from pathlib import Path

from mlc_edge.errors import ConfigError, MlcEdgeError

HUB_PREFIX = "HF://"
REPOSITORY = re.compile(r"HF://(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
# Files without code: pickled weights and Python modules stay where they are.
PATTERNS = ("*.json", "*.jinja", "*.safetensors", "params_shard_*.bin", "tokenizer.model", "lib/*")

Progress = Callable[[str, float | None], None]


class DownloadError(MlcEdgeError):
    """A model can't be downloaded."""


def download(model: str, report: Progress) -> Path:
    """The folder of `model` ("HF://owner/name[@revision]") in the Hub's cache, complete.

    What an interrupted download left is resumed; without a network, what is in the cache is used.
    Honours HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. Raises ConfigError or DownloadError.
    """
    match = REPOSITORY.fullmatch(model)
    if not match:
        raise ConfigError(f"{model!r} names no repository: write HF://owner/name or …@revision.")
    # A second to import, and wanted by those who download only.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    report(f"downloading {match['id']}", None)
    try:
        folder = snapshot_download(
            match["id"], revision=match["revision"], allow_patterns=list(PATTERNS)
        )
    except GatedRepoError as error:
        raise DownloadError(
            f"{match['id']} is gated: accept its terms on the Hub, then set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{match['id']} has no revision {match['revision']!r}: name a branch, tag or commit."
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"there is no repository {match['id']} on the Hub, or it is private: check the name, or "
            "set HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{match['id']} is not in the cache and the Hub can't be reached: connect to the "
            "internet once, or copy the folder here and name it."
        ) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise DownloadError(
            f"downloading {match['id']} failed: {error}. Try again: what has arrived is kept."
        ) from error
    return Path(folder)
