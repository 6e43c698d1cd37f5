"""The machine's configuration file: TOML, written by its owner, read by all commands that it concerns."""

import os
import sys
from pathlib import Path
from typing import Any

from mlc_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path("/etc/mlc-edge/config.toml")
FILE_VARIABLE = "MLC_EDGE_CONFIG"


def find_config_file() -> Path | None:
    """`$MLC_EDGE_CONFIG`, or the default file if there is one."""
    if chosen := os.environ.get(FILE_VARIABLE):
        return Path(chosen)
    try:
        os.stat(DEFAULT_FILE)
    except FileNotFoundError:
        return None
    except OSError:
        # It is there: what can't be read must not count as empty.
        pass
    return DEFAULT_FILE


def read_config_file(file: Path) -> dict[str, Any]:
    """The fields of a configuration file; raises ConfigError."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"can't read the configuration {file}: {error.strerror}. Name another with --config."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file} is not TOML: {error}. See `mlc-edge run --help`.") from error
