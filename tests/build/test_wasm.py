import stat
from pathlib import Path

import pytest

from mlc_edge.errors import ToolchainError
from webbuild.wasm.emscripten import EMSDK_VERSION, find_emscripten
from webbuild.wasm.link import link


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of basic tools, without emscripten, and an empty cache; returns the PATH's folder."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "tar", "gzip", "mkdir", "chmod", "cat"):
        (tools / name).symlink_to(
            next(p for p in (Path("/bin"), Path("/usr/bin")) if (p / name).exists()) / name
        )
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("MLC_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMSDK", raising=False)
    return tools


def test_no_emscripten_says_how_to_install_it(bare_machine: Path):
    write_program(bare_machine / "curl", "echo 'curl: (6) no such host' >&2; exit 6")
    with pytest.raises(ToolchainError) as caught:
        find_emscripten()
    assert "apt-get install emscripten" in str(caught.value)
    assert "no such host" in str(caught.value)
    assert not list((bare_machine.parent / "cache").iterdir())


def test_emsdk_is_downloaded_once(bare_machine: Path):
    em = "upstream/emscripten/em++"
    emsdk = bare_machine.parent / "emsdk"
    write_program(
        emsdk / "emsdk",
        f'[ "$1" = install ] || exit 0; mkdir -p upstream/emscripten; '
        f"printf '#!/bin/bash\\necho emcc 9.8.7\\n' > {em}; chmod +x {em}",
    )
    write_program(bare_machine / "curl", f"tar cz -C {emsdk.parent} emsdk; echo x >> {emsdk}/calls")
    assert find_emscripten().version == "9.8.7"
    assert find_emscripten().compiler.endswith(f"emsdk-{EMSDK_VERSION}/{em}")
    assert (emsdk / "calls").read_text() == "x\n"


def test_the_environments_emsdk_is_used(bare_machine: Path, monkeypatch: pytest.MonkeyPatch):
    emsdk = bare_machine.parent / "mine"
    write_program(emsdk / "upstream/emscripten/em++", "echo 'emcc 4.0.1'")
    monkeypatch.setenv("EMSDK", str(emsdk))
    assert find_emscripten().version == "4.0.1"


def test_a_failing_linker_shows_its_last_words(tmp_path: Path):
    (tmp_path / "model.o").write_text("no object file")
    with pytest.raises(ToolchainError, match=r"model\.o"):
        link(str(tmp_path / "out.wasm"), [str(tmp_path / "model.o")])
