"""Formats for a size."""

import itertools

import pytest

from mlc_edge.errors import ConfigError
from webbuild.quantization.budget import Choice, fit, parse_size
from webbuild.quantization.formats import Q4, Q4M, Q8


def choices(weight: int, errors: tuple[float, float, float]) -> list[Choice]:
    sizes = (weight * 9 // 2, weight * 5, weight * 17 // 2)
    return [
        Choice(format, size, error)
        for format, size, error in zip((Q4, Q4M, Q8), sizes, errors, strict=True)
    ]


MODEL = {
    "a": choices(100, (1.0, 0.6, 0.01)),
    "b": choices(100, (3.0, 0.0, 0.0)),
    "c": choices(400, (0.5, 0.45, 0.0)),
    "d": choices(50, (0.2, 0.3, 0.1)),
}


def error_of(names: dict[str, str]) -> float:
    return sum(c.error for n, cs in MODEL.items() for c in cs if c.format.name == names[n])


@pytest.mark.parametrize("size", range(2950, 5700, 250))
def test_the_error_is_the_least_that_fits(size: int):
    found = {name: format.name for name, format in fit(MODEL, fixed=25, size=size).items()}
    taken = 25 + sum(c.bytes for n, cs in MODEL.items() for c in cs if c.format.name == found[n])
    assert taken <= size
    names = [format.name for format in (Q4, Q4M, Q8)]
    every = (dict(zip(MODEL, each, strict=True)) for each in itertools.product(names, repeat=4))
    fitting = [
        error_of(each)
        for each in every
        if 25 + sum(c.bytes for n, cs in MODEL.items() for c in cs if c.format.name == each[n])
        <= size
    ]
    assert error_of(found) == pytest.approx(min(fitting))


def test_what_is_exact_in_fewer_bytes_stays_so():
    assert fit(MODEL, fixed=0, size=10**6)["b"] == Q4M


def test_large_sizes_are_kept_to():
    model = {str(i): choices(10**7 + 997 * i, (1.0 + i, 0.5, 0.1)) for i in range(100)}
    size = 5_800_000_000
    found = fit(model, fixed=0, size=size)
    taken = sum(c.bytes for n, cs in model.items() for c in cs if c.format == found[n])
    assert 0.99 * size < taken <= size


def test_many_small_weights_keep_to_the_size():
    model = {
        str(i): [Choice(Q4, 10, 1.0), Choice(Q4M, 11 + i % 3, 0.5), Choice(Q8, 14, 0.0)]
        for i in range(6000)
    }
    size = 80_000
    found = fit(model, fixed=0, size=size)
    taken = sum(c.bytes for n, cs in model.items() for c in cs if c.format == found[n])
    assert 65_000 < taken <= size


def test_too_few_bytes_are_told():
    with pytest.raises(ConfigError, match="the weights take 2,950 at least"):
        fit(MODEL, fixed=25, size=2949)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1234", 1234),
        ("999B", 999),
        ("135kB", 135_000),
        ("7 KiB", 7 << 10),
        ("95MB", 95_000_000),
        ("2mib", 2 << 20),
        ("1.5 GB", 1_500_000_000),
        ("0.5GiB", 1 << 29),
    ],
)
def test_sizes_are_read(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "95 parsecs", "0", "1e3", "inf"])
def test_other_sizes_are_refused(text: str):
    with pytest.raises(ConfigError, match="write a size such as"):
        parse_size(text)
