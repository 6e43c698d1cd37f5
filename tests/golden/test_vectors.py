"""The vectors in this folder are what their makers give today."""

import pytest

from tests.golden import make


@pytest.mark.parametrize("name", make.MAKERS)
def test_golden_vectors_are_current(name: str) -> None:
    assert (make.FOLDER / name).read_text() == make.render(name), (
        "run `python -m tests.golden.make`"
    )
