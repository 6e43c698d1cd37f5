"""Sorting for sampling against NumPy, on this CPU and in a browser's WebGPU."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor
from tvm.target import Target

from tests.compiler.browser_library import BrowserLibrary, browser_library
from webbuild.kernels.cpu.sorting import sort_program
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.gpu.sorting import argsort_descending
from webbuild.passes import optimise
from webbuild.targets import profiles_for
from webbuild.wasm.link import link

VOCABULARIES = (1, 1000, 1024, 32_000, 128_256, 262_144)
BATCH = 2
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
def in_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserLibrary]:
    """A library of a sorting function for each of VOCABULARIES."""
    (profile,) = profiles_for("webgpu-software-f32", "q4f32_1")
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
        lowered = optimise(
            exported, GpuKernels("float32", barriers=False), bounds={"batch_size": BATCH}
        ).module
        compiled = tvm.compile(lowered, target=target, relax_pipeline=None)
    path = tmp_path_factory.mktemp("sorting") / "library.wasm"
    compiled.export_library(str(path), fcompile=link)
    with browser_library(path, tmp_path_factory.mktemp("page")) as library:
        yield library


def by_the_browser(library: BrowserLibrary) -> Sort:
    def sort(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered, indices = library.call(f"argsort_{values.shape[1]}", values)
        return ordered, indices

    return sort


@pytest.mark.parametrize("count", VOCABULARIES)
def test_a_browser_sorts_as_numpy_does(in_browser: BrowserLibrary, count: int):
    assert_sorted(by_the_browser(in_browser), values_with_ties(count))


def test_values_that_are_no_numbers_have_a_place_too(in_browser: BrowserLibrary):
    values = values_with_ties(1000)
    values[:, ::3] = np.nan
    for sort in (by_the_browser(in_browser), on_this_cpu(1000)):
        _, indices = sort(values)
        np.testing.assert_array_equal(np.sort(indices), np.tile(np.arange(1000), (BATCH, 1)))
