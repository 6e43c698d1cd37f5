"""What pages load, and the words in it."""

import gzip
import json
import re
import subprocess
from pathlib import Path

from tests.widget.conftest import ROOT
from web.host import STATIC

MAX_CLOSED_BYTES = 40_000
# Of what it loads once it is opened, so that it doesn't grow unseen.
MAX_PANEL_BYTES = 72_000
LANGUAGES = ["en", "de", "es", "ar", "zh", "ja"]
WORDS = """
import { STRINGS } from "./web/worker/widget/strings/index.ts";
import { directionOf, languageOf } from "./web/worker/widget/strings/launcher.ts";
const directions = Object.fromEntries(Object.keys(STRINGS).map((key) => [key, directionOf(key)]));
const found = ["de-AT", "zh-Hans-CN", "AR", "fr", ""].map(languageOf);
console.log(JSON.stringify({ strings: STRINGS, directions, found }));
"""


def zipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))


def test_a_closed_widget_is_small_and_one_file():
    script = STATIC / "dist/widget.js"
    assert zipped(script) <= MAX_CLOSED_BYTES
    text = script.read_text()
    assert not re.findall(r"\bfrom\s*['\"]", text)
    (panel,) = re.findall(r'import\("\./(widget-panel-[A-Z0-9]{8}\.js)"\)', text)
    assert zipped(STATIC / "dist" / panel) <= MAX_PANEL_BYTES
    assert [path.name for path in STATIC.glob("dist/widget-panel-*.js")] == [panel]


def flat(table: dict[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        name = prefix + key
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)}
    return found


def test_every_language_has_every_word(tmp_path: Path):
    command = [
        "node_modules/.bin/esbuild",
        "--bundle",
        "--format=esm",
        f"--outfile={tmp_path}/words.mjs",
    ]
    subprocess.run([*command, "--log-level=warning"], input=WORDS, text=True, check=True, cwd=ROOT)
    printed = subprocess.run(
        ["node", tmp_path / "words.mjs"], capture_output=True, check=True
    ).stdout
    told = json.loads(printed)
    assert list(told["strings"]) == LANGUAGES
    tables = {language: flat(table) for language, table in told["strings"].items()}
    english = tables["en"]
    for table in tables.values():
        assert table.keys() == english.keys()
        assert all(text.strip() for text in table.values())
        for key, text in table.items():
            values = re.findall(r"\{\w+\}", english[key])
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(values), (key, text)
    for language in ("ar", "zh", "ja"):
        same = {key for key, text in tables[language].items() if text == english[key]}
        assert same <= {"downloaded"}
    assert {key for key, value in told["directions"].items() if value == "rtl"} == {"ar"}
    assert told["found"] == ["de", "zh", "ar", "en", "en"]
