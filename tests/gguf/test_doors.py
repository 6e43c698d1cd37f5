"""mlc-edge takes GGUF files where it takes checkpoints: from a disk, and from the Hub."""

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from mlc_edge.gguf_names import model_name, part_names
from mlc_edge.signing import SigningKey
from tests.gguf.writing import WIDE, write_gguf
from tests.models.conftest import MODEL, Machine
from tests.models.hub import Hub

FILE = "q4/tiny-Q4_1.gguf"
NAME = f"HF://{MODEL}/{FILE}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "tiny-Q4_1.gguf"
    write_gguf(path, WIDE, types=lambda name: Type.Q4_1)
    return path


@pytest.fixture
def published(hub: Hub, file: Path, tmp_path: Path) -> Hub:
    """The file in a folder of its repository, beside what nobody asked for."""
    repository = tmp_path / "repository"
    (repository / "q4").mkdir(parents=True)
    (repository / FILE).write_bytes(file.read_bytes())
    (repository / "tiny-F16.gguf").write_bytes(b"other")
    (repository / "config.json").write_text("{}")
    hub.add_folder(MODEL, repository)
    return hub


def keys(folder: Path) -> dict[str, str]:
    """The environment of a machine that runs what one key has signed."""
    return {"MLC_EDGE_TRUSTED_KEY": str(SigningKey.create(folder / "key").public)}


def error_of(machine: Machine, model: object, *options: str, **environment: str) -> str:
    done = machine.chat(model, *options, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.strip().splitlines()[-1]


def test_a_file_is_compiled_once_under_its_own_name(machine: Machine, file: Path, tmp_path: Path):
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    first = machine.resolve(copy)
    assert Path(first["bundle"]).name == "tiny-Q4_1"
    assert any("compiling tiny-Q4_1" in step for step, _ in first["steps"])
    again = machine.resolve(copy)
    assert again["bundle"] == first["bundle"]
    assert not any("compiling" in step for step, _ in again["steps"])
    # A file of one's own is one's own choice where there are trusted keys, as a checkpoint is.
    assert machine.chat(copy, **keys(tmp_path)).returncode == 0
    copy.write_bytes(b"GGUF" * 20)
    assert "GGUF version is" in error_of(machine, copy)


def test_only_the_named_file_is_fetched(published: Hub, machine: Machine):
    bundle = machine.resolve(NAME)["bundle"]
    assert Path(bundle).name == "tiny-Q4_1"
    assert set(published.fetched()) == {FILE}
    commit = published.repositories[MODEL].commit
    assert machine.resolve(f"{NAME}@{commit}")["bundle"] == bundle
    # What is in the cache is used when there is no network.
    published.is_down = True
    assert machine.resolve(NAME)["bundle"] == bundle


def test_errors_say_what_to_do(published: Hub, machine: Machine, tmp_path: Path):
    assert f"{MODEL} has no file other.gguf" in error_of(machine, f"HF://{MODEL}/other.gguf")
    assert "has no revision 'v9'" in error_of(machine, f"{NAME}@v9")
    assert "write HF://owner/name" in error_of(machine, f"HF://{MODEL}/config.json")
    assert "write HF://owner/name" in error_of(machine, f"HF://{MODEL}/../x.gguf")
    assert "this is no GGUF file" in error_of(machine, f"HF://{MODEL}/tiny-F16.gguf")
    missing = tmp_path / "none.gguf"
    assert f"there is no file {missing}" in error_of(machine, missing)
    assert "or a GGUF file (HF://owner/name/file.gguf)" in error_of(machine, tmp_path)


def test_downloaded_files_are_refused_where_there_are_trusted_keys(
    published: Hub, machine: Machine, tmp_path: Path
):
    trusted = keys(tmp_path)
    assert "this machine runs signed bundles only" in error_of(machine, NAME, **trusted)
    assert not published.fetched()
    # Damaged, it arrives and isn't compiled.
    error_of(machine, f"HF://{MODEL}/tiny-F16.gguf")
    cached = next(machine.folder.glob("hub/hub/*/snapshots/*/tiny-F16.gguf"))
    assert "was downloaded and can't have a signature" in error_of(machine, cached, **trusted)
    link = tmp_path / "link.gguf"
    link.symlink_to(cached.resolve())
    assert "was downloaded and can't have a signature" in error_of(machine, link, **trusted)


def test_names_of_files_and_their_parts():
    assert model_name("a-Q4_K_M.gguf") == "a-Q4_K_M"
    assert part_names("a.gguf") == ["a.gguf"]
    first = "a-00001-of-00003.gguf"
    assert model_name(first) == "a"
    assert part_names(first) == [first, "a-00002-of-00003.gguf", "a-00003-of-00003.gguf"]
    assert part_names("a-00002-of-00003.gguf") == ["a-00002-of-00003.gguf"]
    assert part_names("a-00001-of-99999.gguf") == ["a-00001-of-99999.gguf"]
