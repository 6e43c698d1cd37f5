"""Keys, signatures, and machines that run what a trusted key signed and nothing else."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlc_edge.bundle import LOCK_NAME, SIGNATURE_NAME, read_lock, verify
from mlc_edge.errors import BundleError
from mlc_edge.models import resolve_model
from mlc_edge.signing import SigningKey
from tests.build.conftest import ROOT, run_build
from tests.daemon.daemons import run, started
from tests.devices.conftest import relock
from tests.models.conftest import MODEL, Machine
from tests.models.hub import Hub, serving

KEY_TEXT_LENGTH = len("ed25519:") + 44


def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlc_edge", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def refusal(*arguments: object, **environment: str) -> str:
    done = command(*arguments, **environment)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


@dataclass(frozen=True)
class Key:
    file: Path
    public: str

    @property
    def trusted(self) -> dict[str, str]:
        """The environment of a machine that trusts this key."""
        return {"MLC_EDGE_TRUSTED_KEY": self.public}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    """Ours, and a stranger's."""
    folder = tmp_path_factory.mktemp("keys")
    made = []
    for name in ("ours", "strangers"):
        done = command("key", "new", folder / name)
        assert done.returncode == 0, done.stderr
        made.append(Key(folder / name, done.stdout.strip()))
    return made[0], made[1]


@pytest.fixture(scope="session")
def ours(keys: tuple[Key, Key]) -> Key:
    return keys[0]


@pytest.fixture(scope="session")
def strangers(keys: tuple[Key, Key]) -> Key:
    return keys[1]


@pytest.fixture(scope="session")
def signed(bundle: Path, ours: Key, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only read; tests that change one take a copy."""
    copy = shutil.copytree(bundle, tmp_path_factory.mktemp("signed") / bundle.name)
    done = command("key", "sign", copy, "--key", ours.file)
    assert done.returncode == 0, done.stderr
    return copy


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(signed, tmp_path / signed.name)


def chat(model: object, *options: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    asked = ("--prompt", "Hi", "--max-tokens", 1)
    return command("chat", model, *asked, *options, **environment)


def test_a_key_is_private_and_never_overwritten(ours: Key):
    assert ours.file.stat().st_mode & 0o777 == 0o600
    assert len(ours.public) == KEY_TEXT_LENGTH
    before = ours.file.read_bytes()
    assert "never overwritten" in refusal("key", "new", ours.file)
    assert ours.file.read_bytes() == before


def test_a_key_without_a_file_name_goes_to_the_persons_settings(tmp_path: Path):
    done = command("key", "new", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlc-edge/signing-key.pem").stat().st_mode & 0o777 == 0o600


def test_the_signature_is_ed25519_over_the_lock(signed: Path, ours: Key):
    """By the cryptography package alone, as docs/security.md describes the file."""
    content = json.loads((signed / SIGNATURE_NAME).read_text())
    assert set(content) == {"signature_version", "algorithm", "key_id", "signature"}
    assert (content["signature_version"], content["algorithm"]) == (1, "ed25519")
    raw = base64.b64decode(ours.public.removeprefix("ed25519:"), validate=True)
    public = Ed25519PublicKey.from_public_bytes(raw)
    public.verify(base64.b64decode(content["signature"]), (signed / LOCK_NAME).read_bytes())
    openssl = ["openssl", "pkey", "-in", ours.file, "-pubout", "-outform", "DER"]
    assert subprocess.run(openssl, capture_output=True, check=True).stdout.endswith(raw)


def test_a_build_signs(checkpoint: Path, ours: Key, strangers: Key, tmp_path: Path):
    output = tmp_path / "tiny-q0f32"
    options = (checkpoint, "--target", "native", "--quant", "q0f32", "-o", output)
    result = run_build(*options, "--sign", ours.file)
    assert result.returncode == 0, result.stderr
    assert command("key", "verify", output, "--key", ours.public).returncode == 0
    # The very same bundle again, for another key: nothing is compiled, and the lock stays.
    lock = (output / LOCK_NAME).read_bytes()
    result = run_build(*options, "--sign", strangers.file)
    assert "is up to date" in result.stdout
    assert (output / LOCK_NAME).read_bytes() == lock
    assert "isn't trusted" in refusal("key", "verify", output, "--key", ours.public)
    assert command("key", "verify", output, "--key", strangers.public).returncode == 0


def test_a_build_with_a_wrong_key_ends_before_it_begins(checkpoint: Path, tmp_path: Path):
    result = run_build(checkpoint, "-o", tmp_path / "out", "--sign", tmp_path / "none")
    assert result.returncode == 2
    assert "can't be read" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_only_whole_bundles_are_signed(copy: Path, ours: Key):
    (copy / SIGNATURE_NAME).unlink()
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer.json has" in refusal("key", "sign", copy, "--key", ours.file)
    assert not (copy / SIGNATURE_NAME).exists()


def test_verify_says_who_signed(signed: Path, ours: Key, strangers: Key, copy: Path):
    done = command("key", "verify", signed, "--key", strangers.public, "--key", ours.public)
    assert done.returncode == 0
    assert ours.public in done.stdout
    assert command("key", "verify", signed, **ours.trusted).returncode == 0
    assert "isn't trusted" in refusal("key", "verify", signed, **strangers.trusted)
    assert "no key to check with" in refusal("key", "verify", signed)
    (copy / "generation_config.json").write_text("{}")
    assert "generation_config.json has" in refusal("key", "verify", copy, **ours.trusted)


def spoil(name: str, copy: Path, strangers: Key) -> None:
    """Make of a signed bundle one that isn't."""
    signature = copy / SIGNATURE_NAME
    content = json.loads(signature.read_text())
    if name == "missing":
        signature.unlink()
    elif name == "another key":
        SigningKey.load(strangers.file).sign(copy)
    elif name == "another lock":
        (copy / LOCK_NAME).write_bytes((copy / LOCK_NAME).read_bytes() + b"\n")
    elif name == "another model":
        (copy / "generation_config.json").write_text("{}")
        relock(copy, "other")
    elif name == "its id on another's signature":
        SigningKey.load(strangers.file).sign(copy)
        other = json.loads(signature.read_text())
        signature.write_text(json.dumps({**other, "key_id": content["key_id"]}))
    elif name == "a flipped bit":
        raw = bytearray(base64.b64decode(content["signature"]))
        raw[5] ^= 1
        text = base64.b64encode(raw).decode()
        signature.write_text(json.dumps({**content, "signature": text}))
    elif name == "short":
        signature.write_text(json.dumps({**content, "signature": "AAAA"}))
    elif name == "of a later format":
        signature.write_text(json.dumps({**content, "signature_version": 2}))
    else:
        signature.write_text(name)


SPOILED = {
    "missing": "is not signed",
    "another key": "isn't trusted here",
    "another lock": "is not what the key",
    "another model": "is not what the key",
    "its id on another's signature": "is not what the key",
    "a flipped bit": "is not what the key",
    "short": "is no signature",
    "of a later format": "is no signature",
    "[]": "is no signature",
    "{": "is no signature",
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_machine_with_trusted_keys_runs_nothing_else(
    copy: Path, how: str, ours: Key, strangers: Key
):
    assert resolve_model(copy, trusted_keys=[ours.public]) == copy
    spoil(how, copy, strangers)
    with pytest.raises(BundleError, match=SPOILED[how]):
        resolve_model(copy, trusted_keys=[ours.public])
    # The person's word lifts the rule for downloads, not the one that the machine's owner made.
    with pytest.raises(BundleError, match=SPOILED[how]):
        resolve_model(copy, trusted_keys=[ours.public], trust_library=True)


def test_what_a_trusted_key_signed_runs(signed: Path, bundle: Path, ours: Key, strangers: Key):
    both = {"MLC_EDGE_TRUSTED_KEY": f"{strangers.public} {ours.public}"}
    assert chat(signed, **both).returncode == 0
    assert "is not signed" in refusal("chat", bundle, "--trust-library", "--prompt", "Hi", **both)


def test_keys_come_from_the_configuration_file_too(
    signed: Path, bundle: Path, ours: Key, strangers: Key, tmp_path: Path
):
    file = tmp_path / "config.toml"
    file.write_text(f'trusted_key = ["{ours.public}"]\nport = 0\n')
    given = {"MLC_EDGE_CONFIG": str(file)}
    assert chat(signed, **given).returncode == 0
    assert "is not signed" in refusal("chat", bundle, "--prompt", "Hi", **given)
    file.write_text('trusted_key = "text"\n')
    assert "expected a list of public keys" in refusal("chat", signed, **given)
    file.write_text('trusted_key = ["ed25519:AAAA"]\n')
    assert "'ed25519:AAAA': expected" in refusal("chat", signed, **given)
    assert "can't read" in refusal("chat", signed, MLC_EDGE_CONFIG=str(tmp_path / "none"))


def test_the_daemon_serves_what_is_signed(signed: Path, bundle: Path, ours: Key, tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text(f'trusted_key = ["{ours.public}"]\n')
    done = run(bundle, "--config", file, "--port", 0)
    assert done.returncode == 2
    assert "is not signed" in done.stderr.splitlines()[-1]
    with started(signed, "--config", file) as daemon:
        assert daemon.get("ready").status_code == 200
    wrong = run(signed, "--check", "--trusted-key", "ed25519:AAAA")
    assert wrong.returncode == 2
    assert "--trusted-key" in wrong.stderr


def test_the_doctor_says_that_an_unsigned_bundle_does_not_run(
    signed: Path, bundle: Path, ours: Key
):
    assert command("doctor", signed, **ours.trusted).returncode == 0
    done = command("doctor", bundle, **ours.trusted)
    assert done.returncode == 1
    assert "is not signed" in " ".join(done.stdout.split())


@pytest.fixture
def hub(signed: Path) -> Iterator[Hub]:
    with serving() as hub:
        hub.add_folder(MODEL, signed)
        yield hub


def test_a_signed_bundle_of_the_hub_runs_as_it_is(hub: Hub, tmp_path: Path, ours: Key):
    machine = Machine(tmp_path, hub.url)
    done = machine.chat(f"HF://{MODEL}", **ours.trusted)
    assert done.returncode == 0, done.stderr
    assert "lib/native.so" in hub.fetched()
    assert not (tmp_path / "compiled/bundles").exists()
    snapshot = next(tmp_path.glob("hub/hub/models--*/snapshots/*"))
    assert machine.chat(snapshot, **ours.trusted).returncode == 0


def test_of_an_unsigned_repository_nothing_but_the_lock_is_fetched(
    hub: Hub, tmp_path: Path, strangers: Key, checkpoint: Path
):
    machine = Machine(tmp_path, hub.url)
    done = machine.chat(f"HF://{MODEL}", **strangers.trusted)
    assert done.returncode == 2
    assert "isn't trusted here" in " ".join(done.stderr.split())
    assert set(hub.fetched()) == {LOCK_NAME, SIGNATURE_NAME}
    hub.add_folder(MODEL, checkpoint)
    hub.requests.clear()
    done = machine.chat(f"HF://{MODEL}", **strangers.trusted)
    assert done.returncode == 2
    assert "is not signed" in " ".join(done.stderr.split())
    assert not hub.fetched()


def test_checkpoints_on_this_machine_need_no_signature(checkpoint: Path, tmp_path: Path, ours: Key):
    machine = Machine(tmp_path, "http://127.0.0.1:9")
    done = machine.chat(checkpoint, PATH="", **ours.trusted)
    # It comes as far as compiling, which it can't here.
    assert "compiling the model failed" in done.stderr


def test_a_checkpoint_that_was_downloaded_is_refused(checkpoint: Path, tmp_path: Path, ours: Key):
    place = tmp_path / "hub/hub/models--acme--tiny/snapshots/main"
    shutil.copytree(checkpoint, place)
    machine = Machine(tmp_path, "http://127.0.0.1:9")
    done = machine.chat(place, **ours.trusted)
    assert done.returncode == 2
    assert "can't have a signature" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("no key"), "holds no private key"),
        (lambda path: path.write_bytes(b""), "holds no private key"),
        (lambda path: path.mkdir(), "can't be read"),
        (lambda path: None, "can't be read"),
    ],
)
def test_what_is_no_private_key_is_refused(copy: Path, tmp_path: Path, make, words: str):
    path = tmp_path / "key.pem"
    make(path)
    if path.is_file():
        path.chmod(0o600)
    before = (copy / SIGNATURE_NAME).read_bytes()
    assert words in refusal("key", "sign", copy, "--key", path)
    assert (copy / SIGNATURE_NAME).read_bytes() == before


@pytest.mark.parametrize("kind", ["rsa", "ed25519 -aes256 -pass pass:secret"])
def test_keys_of_another_kind_are_refused(copy: Path, tmp_path: Path, kind: str):
    path = tmp_path / "key.pem"
    openssl = ["openssl", "genpkey", "-out", path, "-algorithm", *kind.split()]
    subprocess.run(openssl, check=True, capture_output=True)
    path.chmod(0o600)
    assert str(path) in refusal("key", "sign", copy, "--key", path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_private_key_that_is_open_to_others_is_refused(
    copy: Path, ours: Key, tmp_path: Path, mode: int
):
    key = shutil.copy(ours.file, tmp_path / "key.pem")
    key.chmod(mode)
    assert "chmod 600" in refusal("key", "sign", copy, "--key", key)


def test_a_signature_is_no_part_of_what_is_locked(signed: Path):
    assert SIGNATURE_NAME not in {file.path for file in read_lock(signed).files}
    verify(signed)
