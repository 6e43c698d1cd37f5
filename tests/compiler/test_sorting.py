"""Sorting for sampling against NumPy, on this CPU and in a browser's WebGPU."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from playwright.sync_api import Page
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor
from tvm.target import Target

from tests.browser import bundle_script, serving
from web.browser import chromium
from webbuild.kernels.cpu.sorting import sort_program
from webbuild.kernels.sorting import argsort_descending
from webbuild.passes import optimise
from webbuild.targets import profiles_for
from webbuild.wasm.link import link

VOCABULARIES = (1, 1000, 1024, 32_000, 128_256, 262_144)
BATCH = 2
PAGE = '<!doctype html><script type="module" src="library_page.js"></script>'
Sort = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def values_with_ties(count: int) -> np.ndarray:
    """A row of random values, every seventh of them equal, and one of few values in long runs."""
    random = np.random.default_rng(count)
    values = random.standard_normal((BATCH, count)).astype(np.float32)
    values[0, ::7] = values[0, 0]
    values[1] = random.integers(0, 5, count) / 4
    values[1, count // 2] = -np.inf
    return values


def assert_sorted(sort: Sort, values: np.ndarray) -> None:
    ordered, indices = sort(values)
    expected = np.argsort(-values, axis=-1, kind="stable")
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(ordered, np.take_along_axis(values, expected, -1))


def on_this_cpu(count: int) -> Sort:
    (profile,) = profiles_for("native", "q4f16_1")
    program = sort_program(count).with_attr("global_symbol", "main")
    function = tvm.compile(tvm.IRModule({"main": program}), target=Target(profile.tvm_target))

    def sort(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = tvm.runtime.tensor(np.full_like(values, np.nan))
        indices = tvm.runtime.tensor(np.full(values.shape, -1, np.int32))
        function["main"](tvm.runtime.tensor(values), ordered, indices)
        return ordered.numpy(), indices.numpy()

    return sort


@pytest.mark.parametrize("count", VOCABULARIES)
def test_a_cpu_sorts_as_numpy_does(count: int):
    assert_sorted(on_this_cpu(count), values_with_ties(count))


def sort_rows(_: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    return argsort_descending(values)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a page and a library of a sorting function for each of VOCABULARIES."""
    folder = tmp_path_factory.mktemp("sorting")
    (profile,) = profiles_for("webgpu-f32", "q4f32_1")
    names = {f"argsort_{count}": count for count in VOCABULARIES}
    module = type("Sorts", (nn.Module,), dict.fromkeys(names, sort_rows))()
    bare = {"param_mode": "none", "effect_mode": "none"}
    spec = {
        name: {"values": nn.spec.Tensor(["batch_size", count], "float32"), "$": bare}
        for name, count in names.items()
    }
    target = Target(profile.tvm_target, host=profile.tvm_host)
    with target:
        exported, _ = module.export_tvm(spec=spec)
        lowered, _, _ = optimise(exported, profile, bounds={"batch_size": BATCH})
        compiled = tvm.compile(lowered, target=target, relax_pipeline=None)
    compiled.export_library(str(folder / "library.wasm"), fcompile=link)
    bundle_script(Path(__file__).with_name("library_page.mjs"), folder / "library_page.js")
    (folder / "page.html").write_text(PAGE)
    return folder


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Page]:
    with serving(site) as url, chromium(software=True) as browser:
        page = browser.new_page()
        page.goto(f"{url}page.html")
        page.evaluate("openLibrary('library.wasm')")
        yield page


def in_the_browser(page: Page, site: Path) -> Sort:
    def sort(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (site / "values.bin").write_bytes(values.tobytes())
        name = f"argsort_{values.shape[1]}"
        found = page.evaluate(f"callFunction('{name}', 'values.bin', {list(values.shape)})")
        assert found["errors"] == []
        ordered, indices = map(base64.b64decode, found["results"])
        return (
            np.frombuffer(ordered, np.float32).reshape(values.shape),
            np.frombuffer(indices, np.int32).reshape(values.shape),
        )

    return sort


@pytest.mark.parametrize("count", VOCABULARIES)
def test_a_browser_sorts_as_numpy_does(page: Page, site: Path, count: int):
    assert_sorted(in_the_browser(page, site), values_with_ties(count))


def test_values_that_are_no_numbers_have_a_place_too(page: Page, site: Path):
    values = values_with_ties(1000)
    values[:, ::3] = np.nan
    for sort in (in_the_browser(page, site), on_this_cpu(1000)):
        _, indices = sort(values)
        np.testing.assert_array_equal(np.sort(indices), np.tile(np.arange(1000), (BATCH, 1)))
