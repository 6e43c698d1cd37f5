"""Kernels of each class of browsers' libraries in Chromium, which checks more than Vulkan's compilers do."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlc_edge.vulkan.device import find_adapter
from tests.browser import serving
from tests.build.checkpoints import CONFIG
from tests.gpu.models import CHUNK, CONTEXT, ODD, WIDE
from web.browser import chromium
from webbuild.compiler import CompileOptions, compile_kernels
from webbuild.models.llama_spec import LlamaConfig, parameter_table
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import find_quantization
from webbuild.targets import WEBGPU_PROFILES

if TYPE_CHECKING:
    from playwright.sync_api import Page

FEATURES = "async () => [...(await navigator.gpu.requestAdapter()).features]"
COMPILE = """async ([sources, requiredFeatures]) => {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice({ requiredFeatures });
  const errors = {};
  for (const [name, code] of Object.entries(sources)) {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    const found = messages.filter(({ type }) => type === "error").map(({ message }) => message);
    if (found.length > 0) errors[name] = found;
  }
  return errors;
}"""
SHAPES: dict[str, dict[str, Any]] = {
    "wide": WIDE,
    "odd": ODD,
    # Heads whose tiles fill a workgroup's memory.
    "full": {"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 128},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Page"]:
    """A page on this machine's GPU; on SwiftShader where there is none."""
    folder: Path = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text("<!doctype html><title>kernels</title>")
    software = find_adapter(0).is_software
    with serving(folder) as url, chromium(software=software) as browser:
        page = browser.new_page()
        page.goto(f"{url}page.html")
        yield page
        page.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_chromium_accepts_every_kernel(page: "Page", shape: str):
    """Of the classes that the adapter can take."""
    config = LlamaConfig.from_huggingface({**CONFIG, **SHAPES[shape], "num_hidden_layers": 1})
    formats = choose_formats(parameter_table(config), find_quantization("q4f16_1"))
    options = CompileOptions(context_window_size=CONTEXT, prefill_chunk_size=CHUNK)
    offered = set(page.evaluate(FEATURES))
    taken = [profile for profile in WEBGPU_PROFILES if offered.issuperset(profile.features)]
    assert {"webgpu-f32", "webgpu-software-f32"} <= {profile.name for profile in taken}
    for profile in taken:
        sources = compile_kernels(config, formats, profile, options)
        features = list(profile.features)
        assert page.evaluate(COMPILE, [{"broken": "fn ("}, features])
        assert page.evaluate(COMPILE, [sources, features]) == {}
