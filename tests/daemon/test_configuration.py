"""Flags over environment over file over defaults; what is wrong is named."""

import sys
from pathlib import Path

import pytest

from tests.daemon.daemons import run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def checked(*arguments: object, **extra: str) -> dict[str, object]:
    result = run("--check", *arguments, **extra)
    assert (result.returncode, result.stderr) == (0, "")
    return tomllib.loads(result.stdout)


def problem(*arguments: object, **extra: str) -> str:
    result = run("--check", *arguments, **extra)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_flag_wins_over_environment_wins_over_file(tmp_path: Path):
    file = write(tmp_path, 'host = "127.0.0.3"\nport = 3\nmax_batch = 3\nmodel = "three"\n')
    config = checked(
        "--port", 1, MLC_EDGE_CONFIG=str(file), MLC_EDGE_PORT="2", MLC_EDGE_MAX_BATCH="2"
    )
    assert (config["host"], config["port"], config["max_batch"]) == ("127.0.0.3", 1, 2)
    assert (config["model"], config["drain_timeout"]) == ("three", 30)


def test_what_is_printed_can_be_used(tmp_path: Path):
    flags = ("--memory-limit", "1.5G", "--no-page", "--cors-origin", "https://a.example")
    more = ("--cors-origin", "http://b.example:81", "--mode", "server", "--max-body", "100K")
    config = checked("some/model", *flags, *more)
    assert config["memory_limit"] == 3 << 29
    assert config["cors_origin"] == ["https://a.example", "http://b.example:81"]
    result = run("--check", "some/model", *flags, *more)
    assert checked("--config", write(tmp_path, result.stdout)) == config


def test_lists_in_the_environment():
    config = checked(MLC_EDGE_CORS_ORIGIN="https://a.example https://b.example")
    assert config["cors_origin"] == ["https://a.example", "https://b.example"]


def test_all_wrong_fields_of_a_file_are_named(tmp_path: Path):
    text = 'port = 70000\nmode = "fast"\nmax_bach = 3\npage = "no"\nmemory_limit = "much"\n'
    file = write(tmp_path, text + 'cors_origin = ["example.com"]\ndrain_timeout = true\n')
    error = problem("--config", file)
    assert error.startswith("error: ")
    for name in ("port", "mode", "max_bach", "page", "memory_limit", "cors_origin"):
        assert f"{file}: {name} is" in error
    assert f"{file}: drain_timeout is True, expected seconds from 0 to 86400" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "70000"), "--port"),
        (("--port", "x"), "--port"),
        (("--mode", "fast"), "--mode"),
        (("--memory-limit", "0"), "--memory-limit"),
        (("--cors-origin", "https://a.example/path"), "--cors-origin"),
        (("--allow-host", "a.example:80"), "--allow-host"),
        (("--config", "/no/such/file.toml"), "/no/such/file.toml"),
        (("--api-key-file", "/no/such/keys"), "/no/such/keys"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_wrong_flags(arguments: tuple[str, ...], words: str):
    assert words in problem(*arguments)


def test_wrong_variable_is_named():
    assert "MLC_EDGE_DRAIN_TIMEOUT" in problem(MLC_EDGE_DRAIN_TIMEOUT="-1")


def test_file_that_is_no_toml(tmp_path: Path):
    file = write(tmp_path, "port: 8000\n")
    assert f"{file} is not TOML" in problem("--config", file)


@pytest.mark.parametrize("content", ["", "# nothing\n", "two words\n", "schlüssel-0123456789\n"])
def test_key_file_without_good_keys(tmp_path: Path, content: str):
    keys = tmp_path / "keys"
    keys.write_text(content)
    assert str(keys) in problem("--api-key-file", keys)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o600, ""),
        (0o400, ""),
        (0o640, "other users of this machine can read"),
        (0o604, "other users of this machine can read"),
    ],
)
def test_key_file_that_others_can_read(tmp_path: Path, mode: int, said: str):
    keys = tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef\n")
    keys.chmod(mode)
    result = run("--check", "--api-key-file", keys)
    assert result.returncode == 0
    assert (f"{said} {keys}" in result.stderr) if said else result.stderr == ""


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_key_file_that_others_can_write_to(tmp_path: Path, mode: int):
    keys = tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef\n")
    keys.chmod(mode)
    assert f"other users can write keys of their own to {keys}" in problem("--api-key-file", keys)


@pytest.mark.parametrize(("key", "warned"), [("k" * 15, True), ("k" * 16, False)])
def test_key_that_is_short(tmp_path: Path, key: str, warned: bool):
    keys = tmp_path / "keys"
    keys.write_text(f"sk-0123456789abcdef\n{key}\n")
    keys.chmod(0o600)
    result = run("--check", "--api-key-file", keys)
    assert result.returncode == 0
    assert ("fewer than 16 characters" in result.stderr) == warned


def test_help_names_every_option(tmp_path: Path):
    result = run("--help", COLUMNS="200")
    assert result.returncode == 0
    shown = run("--check").stdout
    names = [line.removeprefix("# ").split(" = ")[0] for line in shown.splitlines()]
    assert len(names) >= 19
    for name in names:
        assert f"MLC_EDGE_{name.upper()}" in result.stdout
        assert name == "model" or f"--{name.replace('_', '-')}" in result.stdout
