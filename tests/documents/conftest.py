"""The small machine of the daemon's tests, for the commands in the documents."""

from __future__ import annotations

from tests.daemon.conftest import workspace

__all__ = ["workspace"]
