"""`mlc-edge update` on a device with trusted keys: what they didn't sign is never put into use."""

import shutil
from pathlib import Path

import pytest

from mlc_edge.bundle import SIGNATURE_NAME
from mlc_edge.models import resolve_model
from mlc_edge.signing import SigningKey
from tests.devices.conftest import Variant
from tests.devices.test_update import layout, linked, update


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SigningKey:
    """The one that the device trusts, once it is asked for by a test."""
    key = SigningKey.create(tmp_path / "key.pem")
    monkeypatch.setenv("MLC_EDGE_TRUSTED_KEY", str(key.public))
    return key


@pytest.fixture
def signed(variant: Variant, key: SigningKey, tmp_path: Path) -> Path:
    bundle = shutil.copytree(variant("third"), tmp_path / "third")
    key.sign(bundle)
    return bundle


@pytest.fixture
def models(variant: Variant, tmp_path: Path) -> Path:
    """A device with a model from before it had keys."""
    folder = tmp_path / "models"
    done = update(variant("first"), "--dir", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_is_not_signed_is_refused_before_it_is_copied(
    models: Path, variant: Variant, key: SigningKey
):
    done = update(variant("second"), "--dir", models)
    assert done.returncode == 2
    assert "is not signed" in done.stderr
    assert "copy" not in done.stdout
    assert layout(models)["current"] == "1-first"


def test_what_is_signed_is_used_with_its_signature(models: Path, signed: Path, key: SigningKey):
    done = update(signed, "--dir", models)
    assert done.returncode == 0, done.stderr
    assert layout(models) | linked("2-third", "1-first") == layout(models)
    current = models / "current"
    assert (current / SIGNATURE_NAME).read_bytes() == (signed / SIGNATURE_NAME).read_bytes()
    assert resolve_model(current, trusted_keys=[str(key.public)]) == current.resolve()
    refused = update("--rollback", "--dir", models)
    assert refused.returncode == 2
    assert "is not signed" in refused.stderr
    assert layout(models)["current"] == "2-third"


def test_what_a_download_left_is_refused_unless_it_is_signed(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    snapshot = tmp_path / "hub/models--acme--second/snapshots/main"
    shutil.copytree(variant("second"), snapshot)
    models = tmp_path / "models"
    done = update(snapshot, "--dir", models)
    assert done.returncode == 2
    assert "nobody vouches for its code" in done.stderr
    assert "copy" not in done.stdout
    key = SigningKey.create(tmp_path / "key.pem")
    key.sign(snapshot)
    monkeypatch.setenv("MLC_EDGE_TRUSTED_KEY", str(key.public))
    assert update(snapshot, "--dir", models).returncode == 0


def test_the_same_bundle_with_its_first_signature_is_taken_over(
    models: Path, variant: Variant, key: SigningKey, tmp_path: Path
):
    bundle = shutil.copytree(variant("first"), tmp_path / "first")
    key.sign(bundle)
    done = update(bundle, "--dir", models)
    assert done.returncode == 0, done.stderr
    assert (models / "current" / SIGNATURE_NAME).is_file()
