"""How much a first visit loads before the page can be used."""

import re
from pathlib import Path

from web.encoding import compress
from web.host import STATIC

MAX_SCRIPT_BYTES = 70_000
MAX_STYLE_BYTES = 8_000
MAX_PAGE_BYTES = 4_000
IMPORTED = re.compile(r'(?:\bfrom|\bimport)\s*"\./([\w./-]+\.js)"')


def zipped(path: Path) -> int:
    return len(compress(path.read_bytes(), "gzip"))


def loaded_first(script: str) -> set[str]:
    """A script of dist/ and all that it imports at once."""
    found, open_ = set[str](), [script]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += IMPORTED.findall((STATIC / "dist" / name).read_text())
    return found


def test_a_first_visit_loads_little_before_the_page_takes_a_message():
    page = (STATIC / "index.html").read_text()
    scripts = re.findall(r'<(?:script|link)\b[^>]* (?:src|href)="\./dist/([\w-]+\.js)"', page)
    styles = re.findall(r'<link rel="stylesheet" href="\./dist/([\w-]+\.css)"', page)
    loaded = set().union(*map(loaded_first, scripts))
    assert scripts
    assert sum(zipped(STATIC / "dist" / name) for name in loaded) <= MAX_SCRIPT_BYTES
    assert len(styles) == 1
    assert zipped(STATIC / "dist" / styles[0]) <= MAX_STYLE_BYTES
    assert zipped(STATIC / "index.html") <= MAX_PAGE_BYTES


def test_nothing_but_our_own_script_and_style_holds_up_the_page():
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script\b(?![^>]*type=\"module\")[^>]*>", page) == []
    assert re.findall(r'(?:src|href)="(?:https?:)?//', page) == []
