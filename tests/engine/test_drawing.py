"""Tokens that the browser's engine lets the device draw: the golden ones, with kernels for hardware."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tvm
from playwright.sync_api import Browser
from tvm.relax.frontend import nn
from tvm.target import Target

from tests.browser import bundle_script, engine_page, serving
from webbuild.kernels.choice import kernels_for
from webbuild.kernels.drawing import Drawing, drawing_spec
from webbuild.numerics import Numerics
from webbuild.passes import optimise
from webbuild.quantization.formats import WeightFormats, find_quantization
from webbuild.targets import profiles_for
from webbuild.wasm.link import link

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/sampling.json").read_text())
SMALL, LARGE = 5003, 131_072
LOGPROB = 1e-6
DrawAll = Callable[[dict[str, Any]], list[Any]]


class _Library(nn.Module, Drawing):
    def __init__(self, numerics: Numerics) -> None:
        super().__init__()
        self.numerics = numerics


def build(vocabulary: int, path: Path) -> None:
    """A library of the drawing functions alone."""
    (profile,) = profiles_for("webgpu-f32", "q4f32_1")
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        kernels = kernels_for(profile, WeightFormats(find_quantization("q4f32_1"), {}))
        module = _Library(Numerics(formats={}, kernels=kernels, batches=False))
        exported, _ = module.export_tvm(spec=drawing_spec(vocabulary))
        lowered = optimise(exported, kernels, bounds={}).module
        compiled = tvm.compile(lowered, target=target, relax_pipeline=None)
    compiled.export_library(str(path), fcompile=link)


@pytest.fixture(scope="module", params=[SMALL, LARGE])
def cases(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[dict[str, Any]], DrawAll]]:
    """The golden cases of a library's vocabulary, and how a page draws their tokens."""
    folder = tmp_path_factory.mktemp("drawing")
    build(request.param, folder / "library.wasm")
    bundle_script(Path(__file__).with_name("drawing.ts"), folder / "drawing.js")
    script = '<script type="module" src="drawing.js"></script>'
    (folder / "page.html").write_text(f"<!doctype html><title>drawing</title>{script}")
    taken = [
        case
        for case in GOLDEN["cases"]
        if (case["rows"].get("vocabulary", 0) > SMALL) == (request.param == LARGE)
    ]
    context = browser.new_context()
    with serving(folder) as url:
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.goto(url + "page.html")
        page.wait_for_function("globalThis.ready === true")
        page.evaluate("(size) => open('library.wasm', size)", request.param)

        def draw_all(case: dict[str, Any]) -> list[Any]:
            drawn = page.evaluate("(given) => drawAll(...given)", [case, GOLDEN["prompt"]])
            assert drawn["submits"] == len(drawn["found"])
            return drawn["found"]

        yield taken, draw_all
    context.close()


def test_the_device_draws_the_golden_tokens(cases: tuple[list[dict[str, Any]], DrawAll]) -> None:
    taken, draw_all = cases
    assert taken
    for case in taken:
        found = draw_all(case)
        for step, (drawn, wanted) in enumerate(zip(found, case["samples"], strict=True)):
            where = f"{case['rows']} {case['settings']} step {step}"
            if drawn is None or wanted is None:
                assert drawn is wanted, where
                continue
            scored = [drawn[:2], *drawn[2]]
            for one, other in zip(scored, [wanted[:2], *wanted[2]], strict=True):
                assert one[0] == other[0], where
                assert one[1] == pytest.approx(other[1], abs=LOGPROB, rel=LOGPROB), where


# A hook for the same library with logits copied back.
ON_THE_HOST = """
const { parse } = JSON;
JSON.parse = (...args) => {
  const value = parse(...args);
  if (value?.draws !== undefined) value.draws = false;
  return value;
};"""
# Tells, since it was last asked, the most bytes that came back at once, and how many things were made.
NOTES = """
let most = 0;
let made = 0;
for (const name of ["createBuffer", "createBindGroup", "createComputePipeline"]) {
  const original = GPUDevice.prototype[name];
  GPUDevice.prototype[name] = function (...args) {
    made += 1;
    return original.apply(this, args);
  };
}
const { mapAsync } = GPUBuffer.prototype;
GPUBuffer.prototype.mapAsync = function (mode, offset = 0, size = this.size - offset) {
  most = Math.max(most, size);
  return mapAsync.call(this, mode, offset, size);
};
const channel = new BroadcastChannel("notes");
channel.onmessage = ({ data }) => {
  if (data !== "tell") return;
  channel.postMessage({ most, made });
  most = made = 0;
};"""
TOLD = """() => new Promise((resolve) => {
  const channel = new BroadcastChannel("notes");
  channel.onmessage = ({ data }) => {
    channel.close();
    resolve(data);
  };
  channel.postMessage("tell");
})"""
ASKED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.5, "top_p": 0.9, "seed": 4},
    {"top_k": 30, "min_p": 0.01, "seed": 5, "n": 2},
    {"temperature": 0.9, "repetition_penalty": 1.3, "seed": 6},
    {
        "temperature": 0,
        "presence_penalty": 1.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"300": 30},
    },
]


def answers_in(browser: Browser, url: str, hook: str) -> tuple[list[Any], int]:
    """Tokens with their log probabilities, and the most bytes that came back for a token.

    Once a kind of answer was given, nothing is made on the device for another of the kind.
    """
    hello = [{"role": "user", "content": "Hello, who are you?"}]
    common = {"messages": hello, "ignore_eos": True, "max_tokens": 6, "logprobs": True}
    with engine_page(browser, url, before_worker=hook + NOTES) as page:
        page.load("tiny-drawing", deterministic=True)
        # Of a prompt's chunks but the last, logits come back.
        page.complete(**{**common, "max_tokens": 1})
        page.run(TOLD)
        found = []
        for settings in ASKED:
            answer = page.complete(**common, top_logprobs=3, **settings)
            for choice in answer["choices"]:
                for token in choice["logprobs"]["content"]:
                    both = (token, *token["top_logprobs"])
                    found += [(one["token"], one["logprob"]) for one in both]
        notes = page.run(TOLD)
        page.complete(**common, top_logprobs=3, **ASKED[-1])
        assert page.run(TOLD)["made"] == 0
        return found, notes["most"]


def test_answers_are_the_same_as_with_logits_on_the_host(
    browser: Browser, site_url: str, drawing_bundle: None
) -> None:
    on_host, all_logits = answers_in(browser, site_url, ON_THE_HOST)
    on_device, few_words = answers_in(browser, site_url, "")
    assert [token for token, _ in on_device] == [token for token, _ in on_host]
    logprobs = [logprob for _, logprob in on_host]
    assert [logprob for _, logprob in on_device] == pytest.approx(logprobs, abs=1e-5, rel=1e-5)
    assert all_logits == 4 * 1024 and few_words == 4 * (4 + 2 * 20)


# A device that leaves out what it is told last.
NO_LAST_KERNEL = """
const { createComputePipeline, createComputePipelineAsync } = GPUDevice.prototype;
const last = new Set();
const { setPipeline, dispatchWorkgroups } = GPUComputePassEncoder.prototype;
const noted = (descriptor, pipeline) => {
  if (descriptor.compute.entryPoint?.startsWith("draw_from_chunks")) last.add(pipeline);
  return pipeline;
};
GPUDevice.prototype.createComputePipeline = function (descriptor) {
  return noted(descriptor, createComputePipeline.call(this, descriptor));
};
GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
  return noted(descriptor, await createComputePipelineAsync.call(this, descriptor));
};
GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
  this.isLast = last.has(pipeline);
  return setPipeline.call(this, pipeline);
};
GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...counts) {
  if (!this.isLast) dispatchWorkgroups.apply(this, counts);
};
"""


def test_a_device_that_draws_wrong_leaves_it_to_the_host(
    browser: Browser, site_url: str, drawing_bundle: None
) -> None:
    on_host, all_logits = answers_in(browser, site_url, ON_THE_HOST)
    instead, as_many = answers_in(browser, site_url, NO_LAST_KERNEL)
    assert instead == on_host and as_many == all_logits
