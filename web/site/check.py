"""Checks a site where it is deployed: what its server does wrong, and what to do about it."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx

from mlc_edge.bundle import LOCK_NAME, LockedFile
from mlc_edge.errors import ConfigError
from mlc_edge.visible import visible
from web.content import media_type
from web.site.headers import is_immutable
from web.site.lock import SiteLock, parse_site_lock

MAX_LOCK_BYTES = 16 << 20
# Of larger files length and ranges are checked, unless all is wanted.
WHOLE_BYTES = 2 << 20
RANGE_BYTES = 65_536
TIMEOUT_S = 30.0
ENCODING = "gzip"
OTHER_ORIGIN = "https://embedding.example"
DAY_S = 86_400
COMPRESSIBLE_BYTES = 100_000
# Types without which a browser refuses the file.
REQUIRED_TYPES = {".js": "JavaScript", ".html": "a page", ".css": "a style sheet"}
JAVASCRIPT = ("text/javascript", "application/javascript")
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A fault of a server: an error where something doesn't work, a warning where it works less well.

    `others` counts further files that have it, too.
    """

    severity: Severity
    path: str
    problem: str
    remedy: str
    others: int = 0

    def __str__(self) -> str:
        more = f" and {self.others} more" if self.others else ""
        return f"{self.severity}: {self.path}{more}: {self.problem} {self.remedy}"


@dataclass(frozen=True)
class Report:
    """What was found at `url`, and how many files were looked at."""

    url: str
    version: str
    files: int
    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def summary(self) -> str:
        """A line for people."""
        errors = sum(finding.severity == "error" for finding in self.findings)
        warnings = len(self.findings) - errors
        return (
            f"{self.url} (mlc-edge {self.version}): {self.files} files checked, "
            f"{errors} error(s), {warnings} warning(s)."
        )


def check_site(url: str, *, everything: bool = False) -> Report:
    """Fetch a deployed site's files as a page of another origin would.

    Files above 2 MiB are judged by their length and a range of them unless `everything` is wanted. Raises
    ConfigError when there is no site at `url`.
    """
    base = _base(url)
    headers = {"origin": OTHER_ORIGIN, "accept-encoding": ENCODING}
    with httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S) as client:
        lock = _fetch_lock(client, base)
        findings = [
            *_address(base),
            *_unknown_path(client),
            *(f for file in lock.files for f in _file(client, file, everything=everything)),
        ]
    return Report(base, lock.version, len(lock.files), tuple(_merged(findings)))


def _base(url: str) -> str:
    """The folder's address, checked before anything is asked."""
    expected = "expected a folder's address, with https:// or http:// and without ? and #"
    try:
        parts = httpx.URL(url)
        host = parts.host
        # As sockets do, which say so too late.
        parts.raw_host.decode("ascii").encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"--check is {url!r}, {expected}: {error}.") from error
    if parts.userinfo:
        raise ConfigError("--check has a name or a password in it: sites are open to everybody.")
    if parts.scheme not in ("http", "https") or not host or "?" in url or "#" in url:
        raise ConfigError(f"--check is {url!r}, {expected}.")
    return url.rstrip("/") + "/"


def _fetch_lock(client: httpx.Client, base: str) -> SiteLock:
    where = base + LOCK_NAME
    try:
        with client.stream("GET", LOCK_NAME) as response:
            if not _is_bounded(response):
                raise ConfigError(f"{where} is sent in an encoding that wasn't asked for.")
            if response.status_code != 200:
                raise ConfigError(
                    f"{where} answers {response.status_code}: name the address of a folder that "
                    "`mlc-edge site` wrote."
                )
            text = b"".join(_bounded(response, MAX_LOCK_BYTES)).decode("utf-8", "replace")
    except httpx.HTTPError as error:
        raise ConfigError(f"{where} can't be fetched: {error}.") from error
    return parse_site_lock(text, where)


def _is_bounded(response: httpx.Response) -> bool:
    """Whether a part of the body can't become gigabytes: gzip makes at most a thousand of a byte."""
    return response.headers.get("content-encoding", "identity").lower() in ("identity", ENCODING)


def _bounded(response: httpx.Response, limit: int) -> Iterator[bytes]:
    """The body's parts as far as the limit and a little further."""
    read = 0
    for part in response.iter_bytes():
        yield part
        read += len(part)
        if read > limit:
            return


def _address(base: str) -> Iterator[Finding]:
    parts = urlsplit(base)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        yield Finding(
            "error",
            "",
            "is no https:",
            "Browsers give WebGPU and storage to https and localhost only.",
        )


def _unknown_path(client: httpx.Client) -> Iterator[Finding]:
    path = f"no-such-file-{secrets.token_hex(4)}.json"
    try:
        with client.stream("GET", path) as response:
            status = response.status_code
    except httpx.HTTPError as error:
        yield Finding(
            "error", path, f"can't be fetched ({error}).", "It should be answered with 404."
        )
        return
    if status != 404:
        yield Finding(
            "warning",
            path,
            f"doesn't exist and is answered with {status}.",
            "Answer 404, so that a file that is missing isn't taken for another one.",
        )


def _file(client: httpx.Client, file: LockedFile, *, everything: bool) -> Iterator[Finding]:
    whole = everything or file.bytes <= WHOLE_BYTES
    headers = {} if whole else {"range": f"bytes=0-{RANGE_BYTES - 1}"}
    try:
        with client.stream("GET", file.path, headers=headers) as response:
            if response.status_code not in (200, 206):
                yield Finding(
                    "error",
                    file.path,
                    f"is answered with {response.status_code}.",
                    "Upload the whole folder, without renaming or leaving out files.",
                )
                return
            if not _is_bounded(response):
                yield Finding(
                    "error",
                    file.path,
                    "is sent in an encoding that wasn't asked for.",
                    "Heed Accept-Encoding: not every browser reads every encoding.",
                )
                return
            yield from _type(file, response)
            yield from _embedding(file, response)
            yield from _caching(file, response)
            yield from _compression(file, response)
            yield from _content(file, response) if whole else _range(file, response)
    except httpx.HTTPError as error:
        yield Finding(
            "error", file.path, f"can't be fetched ({error}).", "Look at the server's log."
        )


def _type(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    wanted = media_type(file.path).split(";")[0]
    found = visible(response.headers.get("content-type", "").split(";")[0].strip().lower())
    if found == wanted or {found, wanted} <= set(JAVASCRIPT):
        return
    suffix = "." + file.path.rpartition(".")[2]
    if suffix in REQUIRED_TYPES:
        needs = f"Serve it as {wanted}: browsers refuse {REQUIRED_TYPES[suffix]} of another type."
        yield Finding("error", file.path, f"has the type {found or 'none'}.", needs)
    elif suffix in (".wasm", ".webmanifest"):
        yield Finding(
            "warning", file.path, f"has the type {found or 'none'}.", f"Serve it as {wanted}."
        )


def _embedding(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    if file.path.endswith(".html"):
        # The page's own frame: other sites load scripts and bundles.
        return
    allowed = response.headers.get("access-control-allow-origin")
    if allowed not in ("*", OTHER_ORIGIN):
        yield Finding(
            "warning",
            file.path,
            "can't be loaded by pages of other origins (no Access-Control-Allow-Origin: *).",
            "Send it, or use _headers, if other sites should embed this one.",
        )
    policy = response.headers.get("cross-origin-resource-policy", "")
    if policy in ("same-origin", "same-site") and allowed in ("*", OTHER_ORIGIN):
        yield Finding(
            "warning",
            file.path,
            f"has Cross-Origin-Resource-Policy: {policy}, which other origins can't load.",
            "Send cross-origin.",
        )


def _caching(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    control = response.headers.get("cache-control", "").lower()
    found = re.search(r"max-age=(\d{1,12})", control)
    age = int(found[1]) if found and "no-cache" not in control else 0
    if is_immutable(file.path):
        if "no-store" in control:
            yield Finding(
                "warning",
                file.path,
                "is never cached (no-store).",
                "It never changes: let it be kept.",
            )
    elif age > DAY_S:
        yield Finding(
            "warning",
            file.path,
            f"is cached for {age // DAY_S} days, though it changes with each version.",
            "Send Cache-Control: no-cache for all but dist/ and weights.",
        )


def _compression(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    text = file.path.endswith((".wasm", ".js", ".json"))
    if text and file.bytes > COMPRESSIBLE_BYTES and not response.headers.get("content-encoding"):
        yield Finding(
            "warning", file.path, "is sent uncompressed.", "Compress it with gzip or Brotli."
        )


def _content(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    digest, length = hashlib.sha256(), 0
    for part in _bounded(response, file.bytes):
        digest.update(part)
        length += len(part)
    if not (length == file.bytes and digest.hexdigest() == file.sha256):
        yield _another(file)


def _another(file: LockedFile) -> Finding:
    return Finding(
        "error",
        file.path,
        "isn't the file that the lock names.",
        "Upload the folder again, and switch off what changes files on the way (minifiers).",
    )


def _range(file: LockedFile, response: httpx.Response) -> Iterator[Finding]:
    if response.status_code == 200:
        length = response.headers.get("content-length")
        if "content-encoding" not in response.headers and length not in (None, str(file.bytes)):
            yield _another(file)
        yield Finding(
            "warning",
            file.path,
            "can't be had in parts (Range is ignored).",
            "Serve ranges: without, a download that breaks off begins anew.",
        )
        return
    wanted = f"bytes 0-{RANGE_BYTES - 1}/{file.bytes}"
    received = sum(map(len, _bounded(response, RANGE_BYTES)))
    if response.headers.get("content-range") != wanted or received != RANGE_BYTES:
        yield Finding(
            "error",
            file.path,
            f"answers a range with {received} bytes and {response.headers.get('content-range')!r}, expected "
            f"{RANGE_BYTES} and {wanted!r}.",
            "Upload the folder again; ranges count bytes of the file itself.",
        )


def _merged(findings: list[Finding]) -> Iterator[Finding]:
    """The same fault of several files once, with how many more there are."""
    groups: dict[tuple[Severity, str, str], list[str]] = {}
    for finding in findings:
        key = (finding.severity, finding.problem, finding.remedy)
        groups.setdefault(key, []).append(finding.path)
    for (severity, problem, remedy), paths in groups.items():
        yield Finding(severity, paths[0], problem, remedy, len(paths) - 1)
