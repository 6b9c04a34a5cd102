"""`run` under service managers: what it says to systemd, and how it ends and logs under launchd."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.processes import KEY, environment, following, log_lines, put_logs, tree, verb
from tests.support.waiting import PATIENCE


async def test_systemd_is_told_that_it_is_ready_and_lives(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    # In the abstract namespace: a test's folder may be too deep for the name of a socket.
    name = f"posthog-llma-daemon-{workspace.root}"[-90:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(PATIENCE)
        env = environment(workspace, posthog.url, NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC="100000")
        async with following(workspace, env=env) as daemon:
            said = [await asyncio.to_thread(manager.recv, 4096) for _ in range(4)]
            assert b"WATCHDOG=1" in said
            assert any(word.startswith(b"READY=1\nSTATUS=following ") for word in said)
            daemon.terminate()
            assert await daemon.wait() == 0
        manager.settimeout(PATIENCE)
        while (await asyncio.to_thread(manager.recv, 4096)) != b"STOPPING=1":
            pass


async def test_launchd_is_not_asked_to_start_a_wrong_configuration_again(workspace: Workspace) -> None:
    log = workspace.root / "logs" / "daemon.log"
    ended = await verb(workspace, "run", "--exit-zero-on-config", "--log-file", log)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "POSTHOG_LLMA_CC_ENABLED=true" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_what_fails_otherwise_still_says_so(workspace: Workspace) -> None:
    workspace.state.write_text("a file in its place")
    env = environment(workspace, "http://127.0.0.1:9")
    ended = await verb(workspace, "run", "--exit-zero-on-config", env=env)
    assert (ended.status, len(ended.errors)) == (1, 1)


async def test_the_log_goes_to_the_file(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    log = workspace.root / "daemon.log"
    env = environment(workspace, posthog.url)
    ended = await verb(workspace, "run", "--once", "--log-format", "json", "--log-file", log, env=env)
    assert (ended.status, ended.stderr) == (0, "")
    assert all(line["event"] for line in log_lines(log.read_text()))
    assert KEY not in log.read_text()


async def test_a_log_file_that_cannot_be_written_is_said(workspace: Workspace) -> None:
    (workspace.root / "file").touch()
    ended = await verb(workspace, "run", "--log-file", Path(workspace.root / "file" / "log"))
    assert (ended.status, len(ended.errors)) == (1, 1)
