"""What may change while the daemon runs, in one place that all layers read."""

import ipaddress
import logging
from dataclasses import replace
from urllib.parse import urlsplit

from edge.daemon.config import DaemonConfig, Source, changes
from edge.daemon.keys import KeyRing, read_keys
from web.server import is_loopback

logger = logging.getLogger(__name__)
# Nobody can register these. Routers use others, too, of which that isn't sure: .lan is promised by
# nobody, and .box is a domain like any other.
PRIVATE_NAMES = (
    ".local",  # RFC 6762, section 3
    ".localhost",  # RFC 6761, section 6.3
    ".home.arpa",  # RFC 8375
    ".internal",  # ICANN's board, 2024-07-29, after SAC113
    ".home",  # ICANN's board, 2018-02-04, for both
    ".corp",
)


class Settings:
    """The configuration in force and its keys; `reload` replaces both, or neither."""

    def __init__(self, source: Source) -> None:
        """Raises ConfigError that names the file and the field."""
        self._source = source
        self.config: DaemonConfig = source.load()
        self.keys: KeyRing = read_keys(self.config.api_key_file)

    def reload(self) -> None:
        """Read file and keys again; raises ConfigError and keeps the old ones if they are wrong."""
        wanted = self._source.load()
        live, postponed = changes(self.config, wanted)
        self.keys = read_keys(wanted.api_key_file)
        self.config = replace(self.config, **live)
        logger.info("configuration reloaded: %s", ", ".join(live) or "no option changed")
        if postponed:
            logger.warning("takes effect after a restart: %s", ", ".join(postponed))

    def allows_host(self, host: str) -> bool:
        """Whether requests may come under this Host header.

        A site that rebinds its DNS name to our address reaches us, but under its own name, and
        without a key.
        """
        name = _host_name(host)
        if name in (self.config.host.lower(), *map(str.lower, self.config.allow_host)):
            return True
        if is_loopback(self.config.host):
            return _is_local(name)
        return len(self.keys) > 0 or _is_of_this_network(name)

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page of this origin may use the API: our own page, and those of --cors-origin.

        Programs send no Origin.
        """
        if origin is None or "*" in self.config.cors_origin:
            return True
        return _is_at(origin, host) or origin in self.config.cors_origin


def _is_at(origin: str, host: str) -> bool:
    """Whether the origin is that of our own page, which has the Host that we are asked as."""
    try:
        return host != "" and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _host_name(host: str) -> str:
    name, _, port = host.rpartition(":")
    bare = name if name and port.isdigit() and not name.endswith(":") else host
    return bare.strip("[]").lower().rstrip(".")


def _is_of_this_network(name: str) -> bool:
    """Whether no site of the internet can have this name."""
    if "." not in name or name.endswith(PRIVATE_NAMES):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
