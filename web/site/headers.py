"""Headers of a site's files, and as the `_headers` file that Netlify and Cloudflare Pages read.

Where several rules match, these hosts join the values of a header: no two rules set the same one.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from web.content import IMMUTABLE, REVALIDATE
from web.host import HASHED_NAME
from web.security import COMMON, CONTENT_SECURITY_POLICY, DIAGRAM, DIAGRAM_PATH

HEADERS_NAME = "_headers"
PAGES = ("index.html", "benchmark.html")
# Nothing here is secret: pages of any origin may load what others embed.
EVERYWHERE = {
    **COMMON,
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "accept-ranges, content-range, etag",
    "cross-origin-resource-policy": "cross-origin",
}
PAGE = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}

DIAGRAM_FRAME = {**{name: DIAGRAM[name] for name in PAGE}, "cache-control": IMMUTABLE}


def is_immutable(path: str) -> bool:
    """Whether a file's address changes with its content: by its name, or by the hash in the query."""
    return bool(HASHED_NAME.fullmatch(path)) or PurePosixPath(path).suffix in (".bin", ".wasm")


def headers_file(paths: Iterable[str], at: str) -> str:
    """The text of `_headers` for a folder that is served at the path `at`, as in "/chat/"."""
    pages = [at, *(at + page for page in PAGES)]
    paths = list(paths)
    diagrams = {path for path in paths if DIAGRAM_PATH.fullmatch(path)}
    kept = sorted(
        {at + _pattern(path) for path in paths if is_immutable(path)} - {at + d for d in diagrams}
    )
    revalidated = sorted(
        {at + path for path in paths if PurePosixPath(path).suffix in (".json", ".whl")}
    )
    rules: list[tuple[str, Mapping[str, str]]] = [(f"{at}*", EVERYWHERE)]
    rules += [(page, {**PAGE, "cache-control": REVALIDATE}) for page in pages]
    rules += [(at + path, DIAGRAM_FRAME) for path in sorted(diagrams)]
    rules += [(path, {"cache-control": IMMUTABLE}) for path in kept]
    rules += [
        (path, {"cache-control": REVALIDATE}) for path in (f"{at}service-worker.js", *revalidated)
    ]
    blocks = (
        "\n".join([path, *(f"  {name}: {value}" for name, value in headers.items())])
        for path, headers in rules
    )
    return "\n\n".join(blocks) + "\n"


def _pattern(path: str) -> str:
    """Shards of one set share a rule, and so do fonts: hosts take a hundred or so."""
    pure = PurePosixPath(path)
    if pure.suffix == ".woff2":
        return f"{path.partition('_')[0]}*"
    if pure.suffix != ".bin":
        return path
    return (pure.parent / (pure.stem.rstrip("0123456789") + "*")).as_posix()
