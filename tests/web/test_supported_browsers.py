"""The browsers that the README and the page name are those that have what the built scripts use."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from web.host import STATIC

ROOT = Path(__file__).parents[2]
# Members of objects, whose interfaces the scripts don't name.
MEMBERS = (
    "Array.findLast",
    "GPUAdapter.info",
    "HTMLDialogElement.showModal",
    "HTMLElement.hidePopover",
    "LockManager.request",
    "Navigator.gpu",
    "ToggleEvent.newState",
    "WorkerNavigator.gpu",
)
# Used where they are there: by noble-hashes, and for one engine of all tabs.
OPTIONAL = {"Uint8Array.fromHex", "SharedWorker"}
README = re.compile(r"Chrome or Edge (\d+)\+, Safari (\d+)\+, Firefox (\d+)\+")
HELP = re.compile(
    r"Chrome or Edge (\d+) and later.*Chrome (\d+) and later on Android.*"
    r"Safari (\d+) and later.*Firefox (\d+) and later on Windows",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def needed() -> dict[str, int]:
    """The first version of each browser that has all of it."""
    scripts = [*STATIC.glob("dist/*.js"), STATIC / "service-worker.js"]
    members = ",".join(MEMBERS)
    command = ["node", "tests/web/needs.mjs", members, *map(str, scripts)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    used = {k: v for k, v in json.loads(done.stdout).items() if k not in OPTIONAL}
    assert "AbortSignal.any" in used
    missing = [(k, b) for k, versions in used.items() for b in versions if versions[b] is None]
    assert missing == []
    browsers = used["AbortSignal.any"]
    return {browser: int(max(v[browser] for v in used.values())) for browser in browsers}


def test_readme(needed: dict[str, int]):
    claimed = README.search((ROOT / "README.md").read_text())
    assert claimed
    chrome, safari, firefox = map(int, claimed.groups())
    assert (chrome, safari, firefox) == (
        max(needed["chrome"], needed["edge"]),
        max(needed["safari"], needed["safari_ios"]),
        needed["firefox"],
    )


def test_page(needed: dict[str, int]):
    claimed = HELP.search((ROOT / "web/worker/chat/strings.ts").read_text())
    assert claimed
    chrome, android, safari, firefox = map(int, claimed.groups())
    assert chrome == max(needed["chrome"], needed["edge"])
    assert (android, safari, firefox) == (
        needed["chrome_android"],
        max(needed["safari"], needed["safari_ios"]),
        needed["firefox"],
    )
