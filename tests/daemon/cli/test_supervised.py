"""`run` under service managers: messages to systemd, and exit codes and the log file for launchd."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.processes import KEY, environment, following, log_lines, put_logs, tree, verb
from tests.support.waiting import PATIENCE


async def test_it_tells_systemd_that_it_is_ready_and_alive(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    # In the abstract namespace, because the path of a test's folder may be too long for a socket.
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


async def test_a_configuration_error_exits_with_0_for_launchd(workspace: Workspace) -> None:
    log = workspace.root / "logs" / "daemon.log"
    ended = await verb(workspace, "run", "--exit-zero-on-config", "--log-file", log)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "POSTHOG_LLMA_CC_ENABLED=true" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_other_failures_still_exit_with_1(workspace: Workspace) -> None:
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


async def test_a_log_file_that_cannot_be_written_is_an_error(workspace: Workspace) -> None:
    (workspace.root / "file").touch()
    ended = await verb(workspace, "run", "--log-file", Path(workspace.root / "file" / "log"))
    assert (ended.status, len(ended.errors)) == (1, 1)
