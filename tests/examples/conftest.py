"""The small machine and the receiver of the daemon's tests, for the programs in `examples/`."""

from __future__ import annotations

from tests.daemon.conftest import posthog, workspace

__all__ = ["posthog", "workspace"]
