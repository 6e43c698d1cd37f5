"""Whose libraries may run here. docs/security.md says what this protects from, and what it doesn't."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_edge.config_file import find_config_file, read_config_file
from mlc_edge.errors import BundleError, ConfigError
from mlc_edge.files import hub_repository
from mlc_edge.signing import PublicKey, find_signer, parse_public_keys

TRUST_HELP = "Run the compiled code of a bundle that comes over the network, too."
KEYS_OPTION = "trusted_key"
KEYS_VARIABLE = "MLC_EDGE_TRUSTED_KEY"


@dataclass(frozen=True)
class Trust:
    """With `keys`, what they signed and nothing else; without, `library`: what came over the network, too."""

    library: bool = False
    keys: tuple[PublicKey, ...] = ()

    @classmethod
    def of(cls, library: bool, keys: Iterable[str]) -> "Trust":
        """From what a person wrote; raises ConfigError for a key that is none."""
        return cls(library, parse_public_keys(keys))

    def runs_libraries_of(self, bundle: Path) -> bool:
        """Whether the bundle's own libraries may run.

        Those in a folder that a person names may: it is their choice. Those that a download left may not.
        Where there are trusted keys, raises BundleError unless one of them signed the bundle.
        """
        if self.keys:
            find_signer(bundle, self.keys)
            return True
        return self.library or not is_downloaded(bundle)

    def require_source(self, source: Path) -> None:
        """Raise BundleError if `source`, which is no bundle, may not even be compiled."""
        if self.keys and is_downloaded(source):
            raise BundleError(
                f"{source} was downloaded and can't have a signature, and this machine runs signed bundles "
                "only: name a bundle, or copy the checkpoint to a folder of your own."
            )


def is_downloaded(path: Path) -> bool:
    """Whether a folder or file lies where the Hub's client keeps downloads, whatever path names it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    resolved = path.resolve()
    cache = Path(HF_HUB_CACHE).expanduser().resolve()
    return hub_repository(resolved) is not None or resolved.is_relative_to(cache)


def configured_keys() -> Sequence[str]:
    """Trusted keys of this machine: `$MLC_EDGE_TRUSTED_KEY`, else those of the configuration file."""
    if given := os.environ.get(KEYS_VARIABLE, "").split():
        return given
    file = find_config_file()
    listed = read_config_file(file).get(KEYS_OPTION, []) if file else []
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise ConfigError(
            f"{file}: {KEYS_OPTION} is {listed!r:.80}, expected a list of public keys."
        )
    return listed
