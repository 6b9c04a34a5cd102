"""The small machine of the daemon's tests."""

from __future__ import annotations

from tests.daemon.conftest import workspace

__all__ = ["workspace"]
