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
