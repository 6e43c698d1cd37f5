"""What can go wrong, as types that callers can act on.

MlcEdgeError
 ├── ConfigError      a flag, field or file is not what was expected
 ├── CheckpointError  a Hugging Face checkpoint can't be read
 ├── BundleError      a bundle is damaged or of another ABI
 ├── ToolchainError   a compiler, linker or browser is missing or failed
 └── EngineError      a request is refused, or the engine failed
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


class EngineError(MlcEdgeError):
    """A request or the engine failed; `code`, `param` as in OpenAI's error objects.

    Codes: invalid_request, context_length_exceeded, model_not_found, queue_full, engine_stopped,
    cancelled, out_of_memory, internal. The text is the message, then the remedy.
    """

    def __init__(self, code: str, message: str, remedy: str = "", param: str | None = None) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.code = code
        self.message = message
        self.remedy = remedy
        self.param = param
