"""What the documents point to exists: files, headings, tests."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in chain(
        ROOT.glob("*.md"), *(ROOT.glob(f"{room}/**/*.md") for room in ("docs", "edge"))
    )
)
PROMISES = ROOT / "docs" / "promises.md"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_promises_are_held_by_tests_that_exist():
    names = re.findall(r"`([\w/]+\.(?:py|json))(?:::(\w+))?`", PROMISES.read_text())
    assert len(names) > 30
    for name, test in names:
        path = ROOT / "tests" / name
        assert path.is_file(), name
        assert not test or f"def {test}(" in path.read_text(), f"{name}::{test}"
