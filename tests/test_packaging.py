"""What `pip install` brings: the wheel has the pages with their scripts, Vulkan's plugins and the command."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT],
        check=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.parametrize(
    "pattern",
    [
        r"mlc_edge/cli\.py",
        r"mlc_edge/pocket/config\.json",
        r"mlc_edge/pocket/generation_config\.json",
        r"mlc_edge/pocket/model\.safetensors",
        r"mlc_edge/pocket/tokenizer\.json",
        r"mlc_edge/pocket/tokenizer_config\.json",
        r"mlc_edge/vulkan/plugin/gpu\.h",
        r"mlc_edge/vulkan/plugin/tvm\.cc",
        r"mlc_edge/vulkan/shipped/plugin-aarch64-\w+-\w+\.so",
        r"mlc_edge/vulkan/shipped/plugin-x86_64-\w+-\w+\.so",
        r"webbuild/build\.py",
        r"webbuild/wasm/headers/include/tvm/support/io\.h",
        r"web/host\.py",
        r"web/static/index\.html",
        r"web/static/service-worker\.js",
        r"web/static/app-lock\.json",
        r"web/static/dist/chat-\w+\.js",
        r"web/static/dist/answers-\w+\.js",
        r"web/static/dist/math-\w+\.css",
        r"web/static/dist/diagram-\w+\.html",
        r"web/static/dist/math-KaTeX_Main-Regular-\w+\.woff2",
        r"web/static/dist/engine-\w+\.js",
        r"web/static/dist/mlc-edge\.js",
        r"web/static/dist/widget\.js",
        r"web/static/dist/widget-panel-\w+\.js",
    ],
)
def test_wheel_holds(wheel: zipfile.ZipFile, pattern: str):
    assert [name for name in wheel.namelist() if re.fullmatch(pattern, name)]


def test_wheel_leaves_tests_and_tools_out(wheel: zipfile.ZipFile):
    outside = ("tests/", "models/", "node_modules/", ".ci/")
    assert not [n for n in wheel.namelist() if n.startswith(outside)]
