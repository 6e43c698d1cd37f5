"""Machines of their own, and a Hub that they ask."""

from tests.models.conftest import hub, machine

__all__ = ["hub", "machine"]
