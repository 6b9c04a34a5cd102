"""What the end-to-end tests stand on: a client, an empty machine in small, a receiver, and the running daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, find_client, start

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def executable() -> Path:
    """The real client."""
    found = find_client()
    if found is None:
        pytest.skip("no claude executable (LLMA_CLAUDE_BIN or PATH)")
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "machine")


@pytest.fixture
async def posthog() -> AsyncIterator[CaptureServer]:
    async with CaptureServer() as server:
        yield server


@pytest.fixture
async def service(workspace: Workspace, posthog: CaptureServer) -> AsyncIterator[Child]:
    """The daemon as a process of its own, ready, on a state folder that nothing was ever written to."""
    environment = workspace.environment(
        POSTHOG_LLMA_CC_ENABLED="true",
        POSTHOG_API_KEY="phc_test",
        POSTHOG_HOST=posthog.url,
        POSTHOG_LLMA_STATE_DIR=str(workspace.state),
    )
    command = [sys.executable, "-m", "daemon.cli", "run", "--log-format", "json"]
    async with start(command, name="daemon", environment=environment, cwd=ROOT, output=workspace.output) as child:
        await child.until(lambda: _is_ready(child), 30)
        yield child


def _is_ready(child: Child) -> bool:
    lines = child.stderr.splitlines(keepends=True)
    return any(json.loads(line).get("event") == "ready" for line in lines if line.startswith("{") and line[-1] == "\n")
