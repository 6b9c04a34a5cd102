"""A small machine and a strict receiver, for whatever runs the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.fork_server import ForkServer
from tests.support.machine import Logged, Machine


@pytest.fixture
def workspace(tmp_path: Path, forks: ForkServer | None) -> Workspace:
    return Workspace(tmp_path / "machine", forks)


@pytest.fixture
async def posthog() -> AsyncIterator[CaptureServer]:
    async with CaptureServer() as server:
        yield server
    assert server.violations == []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def logged() -> Iterator[Logged]:
    with structlog.testing.capture_logs() as lines:
        yield lines
