"""Damage is one clear error before a model is used: not a crash, not an answer from wrong weights."""

import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_edge import MLCEngine
from mlc_edge.bundle import LOCK_NAME, BundleLock, lock_files, read_lock, write_lock
from mlc_edge.errors import BundleError
from mlc_edge.models import resolve_model
from tests.daemon.daemons import run

WEIGHTS, INDEX = "cpu/params_shard_0.bin", "cpu/tensor-cache.json"
LIBRARY = "lib/native.so"
CHAT, TOKENIZER, TOKENIZER_CONFIG = (
    "mlc-chat-config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
Change = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where records go; other tests' say nothing."""
    monkeypatch.setenv("MLC_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copy(pocket_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pocket_bundle, tmp_path / pocket_bundle.name)


def relock(bundle: Path, **model: Any) -> None:
    """Let the lock say what the files are now, as one does who made them so."""
    lock = read_lock(bundle)
    info = lock.model.__class__(**{**vars(lock.model), **model})
    write_lock(bundle, BundleLock(info, lock_files(bundle), lock.targets))


def flip(path: Path) -> None:
    """Change one bit in the middle, and nothing that a listing shows."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def edit(path: Path, change: Change) -> None:
    """Put what `change` makes of the file's JSON there."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def setting(*keys: str | int, to: Any) -> Change:
    """Sets a field of nested JSON."""

    def change(content: Any) -> Any:
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to
        return content

    return change


def without(key: str) -> Change:
    return lambda content: {name: value for name, value in content.items() if name != key}


def record(field: str, value: Any) -> Change:
    return setting("records", 0, "records", 3, field, to=value)


def problem_of(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        resolve_model(bundle)
    assert str(bundle) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", [WEIGHTS, LIBRARY, INDEX, CHAT, TOKENIZER, GENERATION])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "has another SHA-256"),
        (cut, r"has \d+ bytes, expected \d+"),
        (Path.unlink, "is missing"),
    ],
)
def test_each_file_is_held_to_the_lock(
    copy: Path, path: str, damage: Callable[[Path], None], words: str
):
    resolve_model(copy)
    damage(copy / path)
    assert re.search(f"{path} {words}", problem_of(copy))


@pytest.mark.parametrize("path", [WEIGHTS, CHAT])
def test_pipes_devices_and_links_in_place_of_files_are_refused_at_once(
    copy: Path, tmp_path: Path, path: str
):
    file = copy / path
    file.rename(tmp_path / "moved")
    os.mkfifo(file)
    assert f"{path} is no plain file" in problem_of(copy)
    for target in (tmp_path / "moved", Path("/dev/zero"), Path("nowhere")):
        file.unlink()
        file.symlink_to(target)
        assert f"{path} is a link" in problem_of(copy)


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        (INDEX, record("byteOffset", 1 << 40), "doesn't lie in"),
        (INDEX, record("byteOffset", -64), "byteOffset is -64"),
        (INDEX, record("shape", [1 << 31, 1 << 31, 1 << 31]), "expected"),
        (INDEX, record("shape", [-1]), "shape"),
        (INDEX, record("shape", "large"), "shape is 'large'"),
        (INDEX, record("dtype", "float128"), "dtype is 'float128'"),
        (INDEX, record("format", "pickle"), "format is 'pickle'"),
        (INDEX, record("name", None), "expected an object with a name"),
        (INDEX, setting("records", 0, "dataPath", to="../../etc/passwd"), "'../../etc/passwd'"),
        (INDEX, setting("records", 0, "dataPath", to="other.bin"), "cpu/other.bin, which the lock"),
        (INDEX, setting("records", 0, "nbytes", to=64), "doesn't lie in"),
        (INDEX, setting("records", 0, "nbytes", to=1 << 40), "bytes, expected 1099511627776"),
        (INDEX, lambda index: [index], "no list of records"),
        (CHAT, lambda config: [config], "expected a JSON object"),
        (CHAT, without("vocab_size"), "vocab_size is missing"),
        (CHAT, setting("vocab_size", to="1024"), "vocab_size is '1024'"),
        (CHAT, setting("vocab_size", to=0), "vocab_size is 0"),
        (CHAT, setting("active_vocab_size", to=1 << 20), "active_vocab_size is 1048576"),
        (CHAT, setting("vocab_size", to=2048), "model_config.vocab_size is 1024, vocab_size 2048"),
        (CHAT, setting("temperature", to="hot"), "temperature is 'hot'"),
        (CHAT, setting("temperature", to=-1), "temperature is -1"),
        (CHAT, setting("top_p", to=2), "top_p is 2"),
        (CHAT, setting("repetition_penalty", to=0), "repetition_penalty is 0"),
        (CHAT, setting("eos_token_id", to="</s>"), "eos_token_id is '</s>'"),
        (CHAT, setting("conv_template", to={"stop_token_ids": [None]}), "stop_token_ids is a list"),
        (GENERATION, setting("eos_token_id", to=[1.5]), "eos_token_id is a list"),
        (GENERATION, setting("do_sample", to="no"), "do_sample is 'no'"),
        (TOKENIZER, lambda tokenizer: {}, "model is missing"),
        (TOKENIZER, setting("model", "type", to="Unheard"), "it is no tokenizer"),
        # The tokenizers library panics.
        (TOKENIZER, setting("model", "merges", 736, 1, to="<|im_end|>"), "it is no tokenizer"),
        (TOKENIZER, setting("model", "vocab", to={"a": 5000}), "token ids up to 5000"),
        (TOKENIZER, setting("decoder", to={"type": "Unheard"}), "its vocabulary can't be read"),
        (TOKENIZER_CONFIG, setting("chat_template", to=5), "chat_template is 5"),
        (TOKENIZER_CONFIG, setting("chat_template", to="{% if %}"), "is no template"),
        (
            TOKENIZER_CONFIG,
            setting("chat_template", to="{{ 1 / 0 }}"),
            "fails for a plain question",
        ),
        (TOKENIZER_CONFIG, setting("chat_template", to="{{ '' }}"), "makes an empty prompt"),
        (TOKENIZER_CONFIG, setting("chat_template", to=[{"name": "default"}]), "a list"),
    ],
)
def test_contents_that_make_no_sense_are_refused_though_their_hashes_fit(
    copy: Path, path: str, change: Change, words: str
):
    edit(copy / path, change)
    relock(copy)
    problem = problem_of(copy)
    assert path in problem
    assert words in problem


def test_a_tokenizer_that_its_library_panics_on_ends_the_command_with_one_error(
    copy: Path, own_cache: Path
):
    edit(copy / TOKENIZER, setting("model", "merges", 736, 1, to="<|im_end|>"))
    relock(copy)
    done = run(copy, "--port", 0, "--trust-library", MLC_EDGE_CACHE=str(own_cache))
    assert done.returncode == 2, done.stderr
    assert f"{TOKENIZER}: it is no tokenizer" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"vocab_size": NaN}', "\ud800", '"text"']
)
@pytest.mark.parametrize("path", [CHAT, TOKENIZER, TOKENIZER_CONFIG, INDEX])
def test_what_is_no_json_object_is_refused(copy: Path, path: str, text: str):
    (copy / path).write_bytes(text.encode(errors="surrogatepass"))
    relock(copy)
    assert path in problem_of(copy)


def end_of_what_is_loaded(elf: bytes) -> int:
    """Of a 64-bit little-endian file: elf(5)."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = (struct.unpack_from("<IIQQQQ", elf, table + size * index) for index in range(count))
    pt_load = 1
    return max(offset + length for kind, _, offset, _, _, length in headers if kind == pt_load)


def test_a_library_that_was_cut_before_it_was_locked_does_not_end_the_process(copy: Path):
    content = (copy / LIBRARY).read_bytes()
    cuts = (0, 20, 64, len(content) // 2, end_of_what_is_loaded(content) - 1)
    for part in (*(content[:cut] for cut in cuts), b"\0" * 4096):
        (copy / LIBRARY).write_bytes(part)
        relock(copy)
        assert f"{LIBRARY}: it is no library, or a part of one" in problem_of(copy)


def test_a_library_of_another_program_is_refused(copy: Path):
    # Python's own: the loader takes it, and there is no model in it.
    library = next(Path("/usr/lib").rglob("libz.so.1*"), None) or Path("/lib64/libz.so.1")
    (copy / LIBRARY).write_bytes(library.read_bytes())
    relock(copy)
    with pytest.raises(BundleError, match="is no model library"):
        MLCEngine(copy)


def test_a_library_for_another_vocabulary_is_refused(copy: Path):
    edit(copy / CHAT, setting("vocab_size", to=2048))
    edit(copy / CHAT, setting("model_config", "vocab_size", to=2048))
    relock(copy)
    with pytest.raises(BundleError, match="its vocab_size is 1024, and the bundle's 2048"):
        MLCEngine(copy)


def test_a_library_for_a_shorter_context_is_refused(copy: Path):
    relock(copy, context_window_size=1 << 20)
    with pytest.raises(
        BundleError, match=r"its context_window_size is \d+, and the bundle's 1048576"
    ):
        MLCEngine(copy)


def test_files_that_the_lock_does_not_name_are_not_read(copy: Path):
    (copy / TEMPLATE).write_text("{% if %}")
    resolve_model(copy)
    with MLCEngine(copy) as engine:
        messages = [{"role": "user", "content": "What is 17 + 25?"}]
        answer = engine.chat.completions.create(messages=messages, temperature=0)
    assert "42" in answer.choices[0].message.content
    lock = read_lock(copy)
    files = tuple(file for file in lock.files if file.path != CHAT)
    write_lock(copy, BundleLock(lock.model, files, lock.targets))
    assert f"{CHAT}: the lock doesn't name it" in problem_of(copy)


def test_all_problems_are_told_at_once(copy: Path):
    edit(copy / TOKENIZER_CONFIG, setting("chat_template", to="{% if %}"))
    edit(copy / TOKENIZER, setting("model", "type", to="Unheard"))
    edit(copy / CHAT, setting("vocab_size", to=-1))
    relock(copy)
    flip(copy / WEIGHTS)
    cut(copy / LIBRARY)
    problem = problem_of(copy)
    for words in (
        f"{WEIGHTS} has another SHA-256",
        f"{LIBRARY} has",
        "is no template",
        "is no tokenizer",
        "vocab_size is -1",
    ):
        assert words in problem


@pytest.mark.parametrize(
    ("path", "damage"), [(WEIGHTS, flip), (LIBRARY, cut), (TOKENIZER, cut), (LOCK_NAME, cut)]
)
def test_the_daemon_ends_with_the_error_before_it_is_ready(
    copy: Path, own_cache: Path, path: str, damage: Callable[[Path], None]
):
    damage(copy / path)
    done = run(copy, "--port", 0, MLC_EDGE_CACHE=str(own_cache))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert path in last
    assert "ready:" not in done.stderr
    assert "Traceback" not in done.stderr
