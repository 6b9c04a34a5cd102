from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.installing.plan import Plan
from daemon.installing.systemd import Systemd
from tests.support.client import Workspace
from tests.support.managers import Managers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.mark.parametrize("namespaces", [True, False])
def test_the_unit_is_current_only_if_it_is_what_would_be_written(workspace: Workspace, namespaces: bool) -> None:
    managers = Managers(workspace)
    if not namespaces:
        managers.say("no-namespaces", "226")
    systemd = Systemd(managers.environment())
    plan = Plan(
        program=managers.program,
        state_dir=workspace.state,
        environment_file=workspace.home / "service.env",
        log_file=workspace.home / "daemon.log",
    )
    assert not systemd.is_current(plan)
    systemd.install(plan, lambda _line: None)
    assert systemd.is_current(plan)
    assert not systemd.is_current(replace(plan, program=Path("/usr/bin/posthog-llma-daemon")))


def test_the_unit_is_written_to_the_folder_that_the_user_manager_reads(workspace: Workspace) -> None:
    managers = Managers(workspace)
    managers.say("environment", "XDG_CONFIG_HOME=$'/srv/with blank'\n")
    systemd = Systemd(managers.environment(XDG_CONFIG_HOME="/somewhere/else"))
    assert systemd.path == Path("/srv/with blank/systemd/user/posthog-llma-daemon.service")


@pytest.mark.parametrize(
    ("sandbox", "path", "hidden"),
    [
        ("PrivateTmp=yes", "/tmp/claude", True),
        ("PrivateTmp=yes", "/var/tmp", True),
        ("PrivateTmp=yes", "/tmpfs/claude", False),
        ("PrivateTmp=no", "/tmp/claude", False),
        ("PrivateTmp=yes\nBindReadOnlyPaths=/tmp/claude:/tmp/claude:rbind", "/tmp/claude/x", False),
        ("PrivateDevices=yes", "/dev/shm/claude", True),
        ("ProtectHome=read-only", "/home/ada/.claude", False),
        ("ProtectHome=tmpfs", "/home/ada/.claude", True),
        ("InaccessiblePaths=-/srv/keys -/srv/more", "/srv/more/claude", True),
    ],
)
def test_a_folder_is_hidden_if_the_units_sandbox_hides_it(
    workspace: Workspace, sandbox: str, path: str, hidden: bool
) -> None:
    """Whatever set the sandbox: the unit file or a drop-in."""
    managers = Managers(workspace)
    managers.say("sandbox", f"{sandbox}\n")
    folder = Path("/srv/llma")
    plan = Plan(
        program=folder / "program",
        state_dir=folder / "state",
        environment_file=folder / "service.env",
        log_file=folder / "daemon.log",
        needs=(Path(path),),
    )
    assert Systemd(managers.environment()).hidden(plan) == (Path(path) if hidden else None)


def test_a_link_into_a_hidden_folder_is_hidden(workspace: Workspace) -> None:
    managers = Managers(workspace)
    target = workspace.root / "target"
    managers.say("sandbox", f"InaccessiblePaths={target.resolve()}\n")
    link = workspace.work / "link"
    link.symlink_to(target)
    plan = Plan(
        program=managers.program,
        state_dir=workspace.state,
        environment_file=workspace.home / "service.env",
        log_file=workspace.home / "daemon.log",
        needs=(link,),
    )
    assert Systemd(managers.environment()).hidden(plan) == target.resolve()


def test_a_journal_in_memory_is_explained(workspace: Workspace) -> None:
    managers = Managers(workspace)
    journal = workspace.root / "journal"
    reason = Systemd(managers.environment(), journal=journal).why_no_logs()
    assert reason is not None
    assert "sudo mkdir -p /var/log/journal" in reason
    managers.say("journal", "{}\n")
    assert Systemd(managers.environment(), journal=journal).why_no_logs() is None, "an administrator can read it"
    managers.say("journal", "")
    journal.mkdir()
    assert Systemd(managers.environment(), journal=journal).why_no_logs() is None, "it is only empty"
