"""The embedded model, compiled once for this machine, and daemons that tests share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.daemon.daemons import Daemon, started

KEY = "sk-test-0123456789abcdef"
SITE = "https://chat.example.com"


@pytest.fixture(scope="session")
def bundle(pocket_bundle: Path) -> Path:
    return pocket_bundle


@pytest.fixture(scope="session")
def daemon(bundle: Path) -> Iterator[Daemon]:
    """As an owner starts it, without any option. Tests leave it idle."""
    with started(bundle) as daemon:
        yield daemon


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with daemon.client() as client:
        yield client


@dataclass(frozen=True)
class Guarded:
    """A daemon with keys, one other site, a small body limit, and JSON logs."""

    daemon: Daemon
    folder: Path

    @property
    def authorized(self) -> dict[str, str]:
        return {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="session")
def guarded(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"# the test's own\n{KEY}\n\nsk-another-0123456789\n")
    (folder / "keys").chmod(0o600)
    (folder / "config.toml").write_text(
        f'api_key_file = "{folder / "keys"}"\n'
        f'cors_origin = ["{SITE}"]\n'
        'max_body = "4K"\n'
        'log_format = "json"\n'
        "max_batch = 1\n"
        "max_queue = 0\n"
        "page = false\n"
    )
    with started(bundle, "--config", folder / "config.toml") as daemon:
        yield Guarded(daemon, folder)
