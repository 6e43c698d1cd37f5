"""The package for Pyodide: the part of `mlc_edge` that runs above the JavaScript library."""

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

import mlc_edge
from mlc_edge.version import BROWSER_DISTRIBUTION, __version__

PACKAGE = Path(mlc_edge.__file__).parent
MODULES = ("__init__", "errors", "in_browser", "openai", "version")
STEM = f"{BROWSER_DISTRIBUTION.replace('-', '_')}-{__version__}"
NAME = f"{STEM}-py3-none-any.whl"
METADATA = f"""Metadata-Version: 2.1
Name: {BROWSER_DISTRIBUTION}
Version: {__version__}
Summary: Run a compiled language model in a browser, from Pyodide, with OpenAI's API.
License: Apache-2.0
Requires-Python: >=3.10
"""
FORMAT = f"""Wheel-Version: 1.0
Generator: mlc-edge {__version__}
Root-Is-Purelib: true
Tag: py3-none-any
"""


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder; the same sources always give the same bytes.

    Form: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    files = {f"mlc_edge/{name}.py": (PACKAGE / f"{name}.py").read_bytes() for name in MODULES}
    files[f"{STEM}.dist-info/METADATA"] = METADATA.encode()
    files[f"{STEM}.dist-info/WHEEL"] = FORMAT.encode()
    record = f"{STEM}.dist-info/RECORD"
    files[record] = _record(files, record)
    path = folder / NAME
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            # Without a time, so that nothing but the content counts.
            wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _record(files: dict[str, bytes], own_name: str) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        rows.writerow([name, f"sha256={digest.decode()}", len(content)])
    rows.writerow([own_name, "", ""])
    return text.getvalue().encode()
