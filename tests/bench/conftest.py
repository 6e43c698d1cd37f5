"""The small bundle that the build's tests make."""

from tests.build.conftest import checkpoint, native_bundle

__all__ = ["checkpoint", "native_bundle"]
