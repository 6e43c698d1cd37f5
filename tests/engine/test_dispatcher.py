"""How a step's commands reach the device: their order, and how little is made for them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import EnginePage, bundle_script, engine_page, serving

Play = Callable[..., Any]
MIB = 2**20


@pytest.fixture(scope="module")
def play(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Runs a scene of dispatcher.ts on a device of its own."""
    folder = tmp_path_factory.mktemp("dispatcher")
    bundle_script(Path(__file__).with_name("dispatcher.ts"), folder / "dispatcher.js")
    page_text = (
        '<!doctype html><title>scenes</title><script type="module" src="dispatcher.js"></script>'
    )
    (folder / "page.html").write_text(page_text)
    context = browser.new_context()
    with serving(folder) as url:
        page = context.new_page()
        page.goto(url + "page.html")
        page.wait_for_function("globalThis.ready === true")
        yield lambda name, *argument: page.evaluate("(a) => run(...a)", [name, list(argument)])
    context.close()


def test_uploads_take_effect_in_their_turn(play: Play) -> None:
    # 1 from before the upload and 10 from after it; what no command reads is written without a submit.
    assert play("uploads") == {"submits": [0, 1], "sum": 11, "other": 7}


def test_launches_of_a_step_have_scalars_of_their_own(play: Play) -> None:
    # All of them in one write, and none where a step's are those of the step before.
    assert play("scalars") == [[3.5, 1], [3.5, 0], [4.5, 1]]


def test_copies_come_between_launches(play: Play) -> None:
    assert play("copies") == {"taken": 3, "sum": 8, "passes": 2}


def test_a_step_is_one_pass_with_the_bind_groups_of_the_last_one(play: Play) -> None:
    assert play("steps") == {
        "sum": 2020,
        "first": 2,
        "counts": {"beginComputePass": 1, "submit": 1},
    }


def test_a_step_may_have_more_launches_than_uniforms_have_room_for(play: Play) -> None:
    assert play("many") == sum(launch % 7 for launch in range(3000))


@pytest.mark.parametrize(("width", "height"), [(3, 4), (65535, 2), (70001, 2), (140001, 1)])
def test_launches_have_two_dimensions_of_any_size(play: Play, width: int, height: int) -> None:
    assert play("dimensions", width, height) == [[1 + 1000 * y] for y in range(height)]


def test_a_freed_buffer_is_used_again(play: Play) -> None:
    assert play("reuse") == {"sum": 12, "created": 1, "groups": 1}


@pytest.mark.parametrize(
    ("sizes", "again"),
    [
        ([1000 * size for size in range(1, 101)], 100 - 32),
        ([size * MIB for size in (1, 2, 3)], 2),
        ([1000, 64 * MIB], 1),
    ],
    ids=["many", "large", "one too large"],
)
def test_few_freed_buffers_are_kept(play: Play, sizes: list[int], again: int) -> None:
    assert play("bound", *sizes) == {"created": [len(sizes), again], "inUse": 0}


def test_a_buffer_is_freed_when_commands_that_use_it_are_done(play: Play) -> None:
    assert play("freed") == {"sum": 7, "destroyed": 2}


def test_launches_that_look_alike_have_their_own_buffers(play: Play) -> None:
    assert play("alike") == [32, 2]


@pytest.mark.parametrize(("freed", "made"), [(1, 0), (0, 1)])
def test_bind_groups_go_with_their_buffers_and_are_bounded(
    play: Play, freed: int, made: int
) -> None:
    assert play("forgotten", freed) == {"sum": 2, "createBindGroup": made}


def test_reads_come_together(play: Play) -> None:
    assert play("reads") == {"found": [[4, 1], [2], []], "submits": 1}


def test_a_library_launches_and_copies(play: Play) -> None:
    # Three times 0.5 - 2, by a kernel compiled once, and a 7 from the library; no byte after the ninth.
    assert play("calls") == {"found": [-4.5, 7, 1], "compiled": 1}


def test_a_library_that_names_no_buffer_fails_the_step(play: Play) -> None:
    failed = play("unknown")
    assert failed["code"] == "internal" and "no buffer 12345" in failed["message"]


def test_a_device_without_room_says_so(play: Play) -> None:
    failed = play("full")
    assert failed["code"] == "out_of_memory" and "no room" in failed["message"]


COUNTS = """
const counts = {};
const made = [];
const count = (type, names) => {
  for (const name of names) {
    const original = type.prototype[name];
    type.prototype[name] = function (...args) {
      counts[name] = (counts[name] ?? 0) + 1;
      if (name.startsWith("createComputePipeline")) made.push(args[0].compute.entryPoint);
      return original.apply(this, args);
    };
  }
};
count(GPUDevice, ["createBuffer", "createBindGroup", "pushErrorScope"]);
count(GPUDevice, ["createComputePipeline", "createComputePipelineAsync"]);
count(GPUQueue, ["submit"]);
count(GPUCommandEncoder, ["beginComputePass"]);
count(GPUComputePassEncoder, ["dispatchWorkgroups"]);
const channel = new BroadcastChannel("counts");
channel.onmessage = ({ data }) => {
  if (data === "tell") channel.postMessage({ counts, made });
};"""
TOLD = """() => new Promise((resolve) => {
  const channel = new BroadcastChannel("counts");
  channel.onmessage = ({ data }) => {
    channel.close();
    resolve(data);
  };
  channel.postMessage("tell");
})"""


@pytest.fixture(scope="module")
def counted(browser: Browser, site_url: str, bundles: Path) -> Iterator[EnginePage]:
    with engine_page(browser, site_url, before_worker=COUNTS) as page:
        page.load("tiny-q0f32")
        yield page


def counts_of(page: EnginePage, tokens: int) -> dict[str, int]:
    """Of an answer of so many tokens."""
    hello = [{"role": "user", "content": "Hello, who are you?"}]
    before = page.run(TOLD)["counts"]
    answer = page.complete(messages=hello, temperature=0, ignore_eos=True, max_tokens=tokens)
    assert answer["usage"]["completion_tokens"] == tokens
    after = page.run(TOLD)["counts"]
    return {name: after[name] - before.get(name, 0) for name in after}


def test_a_token_is_one_pass_and_one_submit_and_makes_nothing(counted: EnginePage) -> None:
    # The first computes the prompt, the second has it in the KV cache, as all others have.
    _, _, few, more = (counts_of(counted, tokens) for tokens in (20, 2, 2, 12))
    of_ten = {name: more[name] - few[name] for name in more}
    assert of_ten.pop("dispatchWorkgroups") > 10 * 10
    once = {"submit": 10, "beginComputePass": 10}
    assert {"createBindGroup", "createBuffer"} < set(of_ten)
    assert of_ten == {**dict.fromkeys(of_ten, 0), **once}


def test_no_kernel_is_compiled_twice(counted: EnginePage) -> None:
    counts_of(counted, 2)
    made = counted.run(TOLD)["made"]
    assert len(made) > 10 and len(set(made)) == len(made)
