"""A small machine and a strict receiver, for whatever runs the daemon."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace, passed_on
from tests.support.fork_server import ForkServer
from tests.support.machine import Logged, Machine

# What the daemon's own modules import is imported with them. The others are imported late: by what is sent with, and by
# what prints.
_PRELOAD = (
    "llma_core",
    "daemon",
    "tests.support.cadence",
    "tests.support.dying",
    "anyio._backends._asyncio",
    "certifi.core",
    "encodings.idna",
    "genai_prices.data",
    "httpcore._sync.http11",
    "rich.console",
    "rich.tree",
)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer | None]:
    """What the daemon's processes are forked from, where that is possible."""
    if sys.platform != "linux":
        yield None
    else:
        with ForkServer(passed_on(), preload=_PRELOAD) as server:
            yield server


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
