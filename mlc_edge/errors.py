"""What can go wrong, as types that callers can act on.

MlcEdgeError
 ├── ConfigError      a flag, field or file is not what was expected
 ├── CheckpointError  a Hugging Face checkpoint can't be read
 ├── BundleError      a bundle is damaged or of another ABI
 └── ToolchainError   a compiler, linker or browser is missing or failed
"""


class MlcEdgeError(Exception):
    """Root of this package's errors; its text ends with what to do."""


class ConfigError(MlcEdgeError):
    """A flag, field or file is not what was expected."""


class CheckpointError(MlcEdgeError):
    """A Hugging Face checkpoint is incomplete, damaged or unsupported."""


class BundleError(MlcEdgeError):
    """A bundle is incomplete, damaged, or made for another ABI."""


class ToolchainError(MlcEdgeError):
    """A compiler, linker or browser is missing or failed."""
