"""Code that came over the network doesn't run, whatever names it, unless the person says so."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlc_edge.bundle import LOCK_NAME
from tests.daemon.daemons import started
from tests.models.conftest import MODEL, ROOT, Machine
from tests.models.hub import Hub, Repository, serving
from tests.models.resolve import TRUST

NAME = f"HF://{MODEL}"
LIBRARY = "lib/native.so"
# Runs as soon as the library is loaded.
HOSTILE = """
#include <fcntl.h>
__attribute__((constructor)) static void strike(void) {{ creat("{marker}", 0600); }}
"""


@dataclass(frozen=True)
class Attack:
    """A repository whose library leaves a mark when it is loaded, and a machine that wants its weights."""

    hub: Hub
    machine: Machine
    marker: Path
    library: bytes

    @property
    def repository(self) -> Repository:
        return self.hub.repositories[MODEL]

    @property
    def snapshot(self) -> Path:
        return next(self.machine.folder.glob(f"hub/hub/*/snapshots/{self.repository.commit}"))

    def assert_harmless(self, done: "subprocess.CompletedProcess[str]") -> None:
        assert done.returncode == 0, done.stderr
        assert not self.marker.exists()


@pytest.fixture(scope="module")
def hostile(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    """Its lock has the right hash. The model is compiled here for the first time by the first test."""
    folder = tmp_path_factory.mktemp("attack")
    marker, library = folder / "struck", folder / "native.so"
    (folder / "strike.c").write_text(HOSTILE.format(marker=marker))
    compile = ["g++", "-x", "c++", "-shared", "-fPIC", "-o", library, folder / "strike.c"]
    subprocess.run(compile, check=True)
    with serving() as hub:
        repository = hub.add_folder(MODEL, tiny_bundle)
        repository.files[LIBRARY] = library.read_bytes()
        repository.relock()
        yield Attack(hub, Machine(folder, hub.url), marker, library.read_bytes())


@pytest.fixture
def attack(hostile: Attack) -> Iterator[Attack]:
    """The repository as it was, and no mark."""
    files = dict(hostile.repository.files)
    hostile.hub.requests.clear()
    yield hostile
    hostile.repository.files = files
    hostile.marker.unlink(missing_ok=True)


@pytest.fixture
def snapshot(attack: Attack) -> Path:
    """What a trusting download left, the library with it."""
    assert Path(attack.machine.resolve(NAME, TRUST)["bundle"]) == attack.snapshot
    assert (attack.snapshot / LIBRARY).read_bytes() == attack.library
    return attack.snapshot


def test_the_hubs_weights_answer_by_a_library_that_is_made_here(attack: Attack):
    attack.assert_harmless(attack.machine.chat(NAME))
    assert LIBRARY not in attack.hub.fetched()
    bundle = Path(attack.machine.resolve(NAME)["bundle"])
    assert bundle.is_relative_to(attack.machine.folder / "compiled")
    assert bundle.name == "tiny"


def test_the_hubs_library_runs_when_a_person_says_so(attack: Attack):
    done = attack.machine.chat(NAME, TRUST)
    assert (done.returncode, attack.marker.exists()) == (2, True)
    assert "is no model library" in done.stderr


def test_a_library_with_another_hash_never_runs(attack: Attack):
    attack.repository.files[LIBRARY] += b"\0"
    attack.repository.files[LOCK_NAME] += b"\n"
    done = attack.machine.chat(NAME, TRUST)
    assert (done.returncode, attack.marker.exists()) == (2, False)
    assert f"{LIBRARY} has" in done.stderr
    assert f"Delete {attack.snapshot.parents[1]}, and it is downloaded again" in done.stderr


def test_where_nothing_can_be_compiled_the_error_says_what_else_there_is(attack: Attack):
    done = attack.machine.chat(NAME, MLC_EDGE_CACHE=str(attack.machine.folder / "new"), PATH="")
    assert (done.returncode, attack.marker.exists()) == (2, False)
    assert "compiling the model failed" in done.stderr
    assert "--trust-library" in done.stderr


@pytest.mark.parametrize("way", ["path", "link", "relative", "elsewhere"])
def test_a_path_into_the_hubs_cache_is_no_way_around(
    attack: Attack, snapshot: Path, tmp_path: Path, way: str
):
    link = tmp_path / "my-model"
    link.symlink_to(snapshot)
    name, environment = {
        "path": (snapshot, {}),
        "link": (link, {}),
        "relative": (os.path.relpath(snapshot, ROOT), {}),
        # The cache of another time, or of another program.
        "elsewhere": (snapshot, {"HF_HOME": str(tmp_path)}),
    }[way]
    attack.assert_harmless(attack.machine.chat(name, **environment))


def test_a_folder_below_the_cache_is_no_way_around(attack: Attack, snapshot: Path):
    copy = shutil.copytree(snapshot, snapshot.parents[2] / "mine")
    # It would be compiled, if there were a compiler.
    done = attack.machine.chat(copy, PATH="")
    assert (done.returncode, attack.marker.exists()) == (2, False)
    assert "compiling the model failed" in done.stderr


def test_the_libraries_of_a_folder_that_a_person_made_run_once_they_are_verified(
    attack: Attack, snapshot: Path, tmp_path: Path
):
    copy = shutil.copytree(snapshot, tmp_path / "tiny-q0f32")
    (copy / LIBRARY).write_bytes(attack.library + b"\0")
    done = attack.machine.chat(copy)
    assert (done.returncode, attack.marker.exists()) == (2, False)
    (copy / LIBRARY).write_bytes(attack.library)
    attack.machine.chat(copy)
    assert attack.marker.exists()


def test_a_library_that_is_a_link_into_the_cache_is_refused(
    attack: Attack, snapshot: Path, tmp_path: Path
):
    copy = shutil.copytree(snapshot, tmp_path / "tiny-q0f32")
    (copy / LIBRARY).unlink()
    (copy / LIBRARY).symlink_to(snapshot / LIBRARY)
    done = attack.machine.chat(copy)
    assert done.returncode == 2
    assert f"{LIBRARY} is a link" in done.stderr
    assert not attack.marker.exists()


def test_a_link_of_the_cache_leads_to_its_own_blobs_alone(
    attack: Attack, snapshot: Path, tmp_path: Path
):
    config = snapshot / "generation_config.json"
    outside = tmp_path / "generation_config.json"
    outside.write_bytes(config.read_bytes())
    target = os.readlink(config)
    config.unlink()
    config.symlink_to(outside)
    done = attack.machine.chat(snapshot, TRUST)
    config.unlink()
    config.symlink_to(target)
    assert done.returncode == 2
    assert "generation_config.json is a link" in done.stderr
    assert not attack.marker.exists()


def test_a_lock_that_names_files_outside_of_the_repository_is_refused(attack: Attack):
    lock = json.loads(attack.repository.files[LOCK_NAME])
    outside = f"../../../../{attack.machine.folder.name}/native.so"
    lock["targets"]["native"]["library"] = lock["files"][0]["path"] = outside
    attack.repository.files[LOCK_NAME] = json.dumps(lock).encode()
    for words in ((), (TRUST,)):
        done = attack.machine.chat(NAME, *words)
        assert done.returncode == 2
        assert "is not a path inside the bundle" in done.stderr
    assert not attack.marker.exists()


def test_weights_that_changed_on_the_way_are_refused(attack: Attack):
    content = bytearray(attack.repository.files["params_shard_0.bin"])
    content[100] ^= 1
    attack.repository.files["params_shard_0.bin"] = bytes(content)
    done = attack.machine.chat(NAME)
    assert done.returncode == 2
    assert "params_shard_0.bin has another SHA-256" in done.stderr


ENGINE = """
import sys
from mlc_edge import MLCEngine
with MLCEngine(sys.argv[1]) as engine:
    engine.completions.create(prompt="a", max_tokens=1)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "mlc_edge", "bench", NAME, "--concurrency", "1", "--repeats", "1"),
        ("-c", ENGINE, NAME),
        ("-m", "mlc_edge", "doctor", "{snapshot}"),
    ],
    ids=["bench", "engine", "doctor"],
)
def test_no_command_runs_it(attack: Attack, snapshot: Path, words: tuple[str, ...]):
    command = [sys.executable, *(word.replace("{snapshot}", str(snapshot)) for word in words)]
    more = ["--prompt-tokens", "4", "--max-tokens", "2"] if "bench" in words else []
    environment = attack.machine.environment
    attack.assert_harmless(
        subprocess.run([*command, *more], capture_output=True, text=True, cwd=ROOT, env=environment)
    )


def test_the_daemon_does_not_run_it(attack: Attack):
    with started(NAME, **attack.machine.environment) as daemon:
        assert daemon.ask(json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})
    assert not attack.marker.exists()


def test_code_beside_a_checkpoint_is_not_imported(
    machine: Machine, checkpoint: Path, tmp_path: Path
):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    marker = tmp_path / "struck"
    for name in ("mlc_edge", "webbuild", "typer", "json", "numpy"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()")
    (folder / "lib").mkdir()
    (folder / LIBRARY).write_bytes(b"code")
    # What pip installs starts so: with its own folder in the path, and not the current one.
    script = tmp_path / "mlc-edge"
    script.write_text("from mlc_edge.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, script, "chat", ".", "--prompt", "Hi", "--max-tokens", "1"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**machine.environment, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
