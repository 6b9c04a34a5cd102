"""`install`, `restart`, `logs` and `uninstall` as on macOS, with a stand-in for launchd that runs the daemon."""

from __future__ import annotations

import asyncio
import os
import plistlib
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.state.lock import holder
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace, start
from tests.support.managers import Managers
from tests.support.processes import KEY, ROOT, Ended, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="would meet the real launchd")


@pytest.fixture
async def managers(workspace: Workspace, posthog: CaptureServer) -> AsyncIterator[Managers]:
    managers = Managers(workspace)
    variables = {
        "POSTHOG_API_KEY": KEY,
        "POSTHOG_LLMA_CC_ENABLED": "true",
        "POSTHOG_HOST": posthog.url,
        "CLAUDE_CONFIG_DIR": str(workspace.config),
        "POSTHOG_LLMA_STATE_DIR": str(workspace.state),
    }
    managers.say("environment", "".join(f"{name}={value}\n" for name, value in variables.items()))
    yield managers
    pid = holder(workspace.state)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def verb(managers: Managers, *arguments: str, **variables: str) -> Ended:
    told = dict(line.split("=", 1) for line in (managers.folder / "environment").read_text().splitlines())
    env = managers.environment(**told, **variables)
    command = [sys.executable, "-m", "tests.support.macos", *arguments]
    name = f"{len(list(managers.workspace.output.iterdir()))}-{arguments[0]}"
    workspace = managers.workspace
    async with start(
        command, name=name, environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as child:
        status = await child.wait()
        return Ended(status=status, stdout=child.stdout, stderr=child.stderr)


def install(managers: Managers, *arguments: str, **variables: str) -> asyncio.Task[Ended]:
    return asyncio.ensure_future(verb(managers, "install", "--program", str(managers.program), *arguments, **variables))


def log(managers: Managers) -> Path:
    [found] = managers.workspace.home.rglob("daemon.log")
    return found


async def test_the_service_is_written_started_and_awaited(managers: Managers) -> None:
    ended = await install(managers)
    assert (ended.status, ended.stderr) == (0, "")
    pid = holder(managers.workspace.state)
    assert f"running (pid {pid})" in ended.stdout
    domain = f"gui/{os.getuid()}"
    assert managers.calls == [
        f"launchctl enable {domain}/com.posthog.llma-daemon",
        f"launchctl bootstrap {domain} {managers.agent}",
    ]
    assert stat.S_IMODE(managers.agent.stat().st_mode) == 0o600
    assert KEY not in managers.agent.read_text()
    # The service counts as started with its lock, which it takes before it is ready.
    await until(lambda: '"ready"' in log(managers).read_text(), "the line of a daemon that is ready")
    shown = await verb(managers, "logs", "-n", "50")
    assert " ready" in shown.stdout
    assert '"ready"' in (await verb(managers, "logs", "--json")).stdout
    assert KEY not in shown.stdout


async def test_installing_again_restarts_the_service(managers: Managers) -> None:
    await install(managers)
    before = holder(managers.workspace.state)
    ended = await install(managers)
    assert ended.status == 0, ended.stderr
    assert f"unchanged: {managers.agent}" in ended.stdout
    assert holder(managers.workspace.state) not in (None, before)


async def test_a_launchd_that_still_unloads_the_last_agent_is_asked_again(managers: Managers) -> None:
    managers.say("busy")
    assert (await install(managers)).status == 0
    assert len([call for call in managers.calls if " bootstrap " in call]) == 2


async def test_over_ssh_the_users_own_domain_is_used(managers: Managers) -> None:
    managers.say("no-gui")
    assert (await install(managers)).status == 0
    assert f"launchctl bootstrap user/{os.getuid()} {managers.agent}" in managers.calls
    managers.say("no-user")
    ended = await verb(managers, "restart")
    assert (ended.status, "log in on the machine itself" in ended.errors[0]) == (1, True)


async def test_a_proxy_of_this_shell_goes_into_the_agent_with_consent(managers: Managers) -> None:
    # Nothing listens at the proxy's address; loopback needs no proxy.
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9"}
    ended = await install(managers, "--yes", **proxy)
    assert ended.status == 0, ended.stderr
    assert plistlib.loads(managers.agent.read_bytes())["EnvironmentVariables"] == proxy


async def test_a_daemon_that_ends_at_once_is_an_error_with_the_end_of_its_log(managers: Managers) -> None:
    managers.program.write_text("#!/bin/sh\nexit 3\n")
    ended = await install(managers)
    assert ended.status == 1
    assert "exit status 3" in ended.errors[0]
    managers.program.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[4], 'w').write('error: no key\\n')\n")
    ended = await install(managers)
    assert ended.status == 78
    assert "configured first" in ended.errors[0]
    assert "  error: no key" in ended.stderr.splitlines()


async def test_restart_start_stop_and_uninstall(managers: Managers) -> None:
    await install(managers)
    before = holder(managers.workspace.state)
    assert (await verb(managers, "restart")).status == 0
    assert holder(managers.workspace.state) not in (None, before)
    assert (await verb(managers, "start")).stdout == f"already running (pid {holder(managers.workspace.state)})\n"
    ended = await verb(managers, "stop")
    assert (ended.status, holder(managers.workspace.state)) == (0, None)
    assert "posthog-llma-daemon start" in ended.stdout
    assert (await verb(managers, "stop")).stdout == "the service does not run\n"
    assert (await verb(managers, "start")).status == 0
    assert holder(managers.workspace.state) not in (None, before)
    assert log(managers).exists()
    ended = await verb(managers, "uninstall")
    assert (ended.status, ended.stderr) == (0, "")
    assert holder(managers.workspace.state) is None
    assert not [path for path in managers.workspace.home.rglob("*") if not path.is_dir()]
    assert managers.workspace.state.exists()
    assert (await verb(managers, "restart")).status == 1
    assert (await verb(managers, "uninstall", "--purge", "--yes")).status == 0
    assert not managers.workspace.state.exists()
