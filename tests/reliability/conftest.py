"""The small machine of the daemon's tests."""

from __future__ import annotations

from tests.daemon.conftest import forks, workspace

__all__ = ["forks", "workspace"]
