"""`archive` with workers on this machine: they wait together, one that is killed loses nothing, Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.capture_server import Answer, CaptureServer, Hold
from tests.support.client import Child, Workspace, start
from tests.support.fleet import packed, runner_sessions
from tests.support.processes import (
    ROOT,
    are_running,
    bodies,
    environment,
    expected,
    put_logs,
    running_below,
    until,
    verb,
)

pytest.importorskip("distributed", reason="needs the extra fleet", exc_type=ImportError)


@asynccontextmanager
async def archiving(workspace: Workspace, name: str, posthog: CaptureServer) -> AsyncIterator[Child]:
    command = [sys.executable, "-m", "tests.support.quick", "archive", str(workspace.root / "store"), "--jobs=2"]
    variables = environment(workspace, posthog.url)
    async with start(
        [*command, "--json"],
        name=name,
        environment=variables,
        cwd=ROOT,
        output=workspace.output,
        forks=workspace.forks,
    ) as child:
        yield child


def store(workspace: Workspace, count: int) -> None:
    """Store the sessions of *count* runners, each in an archive of its own."""
    folder = workspace.root / "store"
    folder.mkdir()
    for number in range(count):
        files = runner_sessions(number, 1)
        put_logs(workspace, files)
        (folder / f"{number}.tar.gz").write_bytes(packed(files, "tar.gz"))


async def test_workers_wait_together_and_lose_nothing(workspace: Workspace, posthog: CaptureServer) -> None:
    store(workspace, 6)
    everything = await expected(workspace)
    told, free, killed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    posthog.script(
        Hold(told, Answer(status=429, headers=(("Retry-After", "1"),))), Hold(free), Hold(killed), Hold(killed)
    )

    async with archiving(workspace, "archive", posthog) as child:
        await child.until(lambda: len(posthog.requests) == 2)
        # Only one of the two that send is told to wait.
        began = time.monotonic()
        told.set()
        await child.until(lambda: any(workspace.temporary.rglob("until")))
        free.set()
        await child.until(lambda: len(posthog.requests) == 4)
        assert min(request.came for request in posthog.requests[2:]) >= began + 1

        # Both wait for an answer when one is killed. Workers are what was started last.
        os.kill(max(running_below(child.pid)), signal.SIGKILL)
        killed.set()
        assert await child.wait() == 0, child.stderr

    assert json.loads(child.stdout)["errors"] == {}
    assert child.stderr == ""
    assert bodies(posthog) == everything


async def test_ctrl_c_ends_the_workers_while_they_send(workspace: Workspace, posthog: CaptureServer) -> None:
    store(workspace, 3)
    answered = asyncio.Event()
    posthog.script(Hold(answered), Hold(answered))

    async with archiving(workspace, "interrupted", posthog) as child:
        await child.until(lambda: len(posthog.requests) == 2)
        started = running_below(child.pid)
        assert len(started) >= 2
        # As a terminal does it: all processes of the group get it.
        os.killpg(child.pid, signal.SIGINT)
        assert await child.wait() == 1
        await until(lambda: not are_running(started), "the workers end")

    # Nobody has waited for the answers.
    assert not answered.is_set()
    assert (child.stdout, child.stderr.split()) == ("", ["Aborted!"])
    assert list(workspace.temporary.iterdir()) == []

    answered.set()
    ended = await verb(
        workspace, "archive", workspace.root / "store", "--jobs=1", env=environment(workspace, posthog.url)
    )
    assert ended.status == 0, ended.stderr
    assert bodies(posthog) == await expected(workspace)
