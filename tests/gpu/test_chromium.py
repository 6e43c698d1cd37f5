"""Kernels of a wide model in Chromium: its compiler checks more of WGSL than Vulkan's does."""

from collections.abc import Callable
from pathlib import Path

from tests.browser import serving
from tests.gpu.models import CHUNK, CONTEXT, GpuModel
from web.browser import chromium
from webbuild.checkpoint import open_checkpoint
from webbuild.compiler import CompileOptions, compile_kernels
from webbuild.quantization.choices import choose_formats
from webbuild.quantization.formats import find_quantization
from webbuild.targets import profiles_for

COMPILE = """async (sources) => {
  const adapter = await navigator.gpu.requestAdapter();
  const limits = ["maxComputeWorkgroupStorageSize", "maxStorageBuffersPerShaderStage"];
  const requiredLimits = Object.fromEntries(limits.map((name) => [name, adapter.limits[name]]));
  const device = await adapter.requestDevice({ requiredLimits });
  const errors = {};
  for (const [name, code] of Object.entries(sources)) {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    const found = messages.filter(({ type }) => type === "error").map(({ message }) => message);
    if (found.length > 0) errors[name] = found;
  }
  return errors;
}"""


def test_chromium_accepts_every_kernel(model: Callable[[str], GpuModel], tmp_path: Path):
    (profile,) = profiles_for("webgpu-f32", "q4f16_1")
    options = CompileOptions(context_window_size=CONTEXT, prefill_chunk_size=CHUNK)
    source = open_checkpoint(model("wide-f32").checkpoint)
    formats = choose_formats(source.table, find_quantization("q4f16_1"))
    sources = compile_kernels(source.model, formats, profile, options)
    (tmp_path / "page.html").write_text("<!doctype html><title>kernels</title>")
    with serving(tmp_path) as url, chromium(software=True) as browser:
        page = browser.new_page()
        page.goto(f"{url}page.html")
        assert page.evaluate(COMPILE, {"broken": "fn ("})
        assert page.evaluate(COMPILE, sources) == {}
        page.close()
