"""A small machine and a strict receiver, for whatever runs the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "machine")


@pytest.fixture
async def posthog() -> AsyncIterator[CaptureServer]:
    async with CaptureServer() as server:
        yield server
    assert server.violations == []
