"""`config` shows the settings in force; `config allow` lets a project choose where its sessions are sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from daemon.config.table import SETTINGS
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import KEY, environment, log_lines, previewed, put_logs, session_id, verb
from tests.support.terminal import on_terminal
from tests.support.waiting import PATIENCE

OTHER_KEY = "phc_another_key_that_no_output_shows"


@pytest.fixture
def project(workspace: Workspace) -> Path:
    """A folder in a git work tree, with a key of its own."""
    folder = workspace.work / "orchard"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, timeout=PATIENCE)
    (folder / ".claude").mkdir()
    local = folder / ".claude" / "settings.local.json"
    local.write_text(json.dumps({"env": {"POSTHOG_API_KEY": OTHER_KEY}}))
    return folder


def track(project: Path, path: Path) -> None:
    subprocess.run(["git", "-C", str(project), "add", "-f", str(path)], check=True, timeout=PATIENCE)


def a_session(name: str, cwd: Path | str) -> LogBuilder:
    log = LogBuilder(session_id(name), cwd=str(cwd), start="2030-01-01T00:00:00Z")
    log.prompt(f"do {name}")
    log.answer(text("done"), id=f"msg_{name}")
    log.prompt("thanks")
    return log


async def test_a_waiting_session_is_reported_and_sent_once_it_is_allowed(
    workspace: Workspace, posthog: CaptureServer, project: Path
) -> None:
    log = a_session("waiting", project)
    put_logs(workspace, log.files())
    env = environment(workspace, posthog.url)

    once = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
    assert once.status == 1
    assert posthog.requests == []
    [held] = [line for line in log_lines(once.stderr) if line["event"] == "session_held"]
    fix = f"posthog-llma-daemon config allow {project}"
    assert fix in held["reason"]

    plain = await verb(workspace, "status", env=env)
    words = " ".join(plain.stdout.split())
    assert f"1 session waiting for you -> {held['reason']}" in words
    document = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
    assert document["sessions_held"] == 1
    assert document["held"][0]["session"] == log.session
    assert document["held"][0]["folder"] == str(project)
    shown = await verb(workspace, "preview", workspace.config, env=env)
    assert previewed(shown.stdout) == {}
    assert f"warning: session {log.session} would wait: {held['reason']}" in shown.stderr

    allowed = await verb(workspace, "config", "allow", project, env=env)
    assert (allowed.status, allowed.stderr) == (0, "")
    assert allowed.stdout == f"allowed: sessions of {project} are sent to {posthog.url} with the key phc_an**********\n"
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert {event["properties"]["$ai_session_id"] for event in posthog.events} == {log.session}
    assert json.loads((await verb(workspace, "status", "--json", env=env)).stdout)["sessions_held"] == 0
    shown = await verb(workspace, "preview", workspace.config, env=env)
    assert previewed(shown.stdout).keys() == posthog.events_by_uuid.keys()

    [kept] = (workspace.home / ".config").rglob("allowed.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    for ended in (once, plain, allowed, shown):
        assert OTHER_KEY not in ended.stdout + ended.stderr
        assert KEY not in ended.stdout + ended.stderr


async def test_a_project_that_cannot_be_allowed_is_reported_in_one_line(workspace: Workspace, project: Path) -> None:
    env = environment(workspace, "https://us.i.posthog.com")
    local = project / ".claude" / "settings.local.json"

    track(project, local)
    tracked = await verb(workspace, "config", "allow", project, env=env)
    assert tracked.status == 1
    assert len(tracked.errors) == 1
    assert "git tracks it" in tracked.stderr

    local.unlink()
    os.mkfifo(local)
    assert "is not a regular file" in (await verb(workspace, "config", "allow", project, env=env)).stderr
    local.unlink()
    assert "there is nothing to allow" in (await verb(workspace, "config", "allow", project, env=env)).stderr
    assert (await verb(workspace, "config", "allow", workspace.root / "none", env=env)).status == 2
    assert (await verb(workspace, "config", "--json", "allow", project, env=env)).status == 2
    off = await verb(workspace, "config", "allow", project)
    assert off.status == 78
    assert "set POSTHOG_LLMA_CC_ENABLED=true" in off.stderr


async def test_project_tables_are_shown_with_masked_keys(workspace: Workspace) -> None:
    folder = workspace.home / ".config" / "posthog-llma-daemon"
    folder.mkdir(parents=True)
    config = folder / "config.toml"
    config.write_text(f'[[project]]\npath = "~/orchard"\napi_key = "{OTHER_KEY}"\nenabled = true\n')
    config.chmod(0o600)

    plain = await verb(workspace, "config")
    assert plain.status == 0
    assert "[[project]] 1: ~/orchard" in plain.stdout
    document = json.loads((await verb(workspace, "config", "--json")).stdout)
    expected = {"path": ["~/orchard"], "settings": {"api_key": "phc_an**********", "cc_enabled": True}}
    assert document["projects"] == [expected]
    assert OTHER_KEY not in plain.stdout + json.dumps(document)


async def test_an_invalid_project_table_exits_with_78(workspace: Workspace) -> None:
    folder = workspace.home / ".config" / "posthog-llma-daemon"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[[project]]\npath = "~/x"\ncontent = "some"\nstate_dir = "/x"\n')

    ended = await verb(workspace, "run", env=environment(workspace, "https://us.i.posthog.com"))
    assert ended.status == 78
    assert len(ended.errors) == 2


async def test_run_local_follows_every_project_whatever_its_key(workspace: Workspace, project: Path) -> None:
    log = a_session("here", project)
    put_logs(workspace, log.files())
    assert (await verb(workspace, "run", "--once", "--local")).status == 0
    assert log.session in (await verb(workspace, "traces", "--json")).stdout


async def test_an_unusable_route_stops_with_one_line(
    workspace: Workspace, posthog: CaptureServer, project: Path
) -> None:
    """The daemon learns of such a route only when a session asks for it."""
    folder = workspace.home / ".config" / "posthog-llma-daemon"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('enabled = "projects"\n')
    (project / ".claude" / "settings.json").write_text('{"env": {"POSTHOG_LLMA_CC_ENABLED": "true"}}')
    put_logs(workspace, a_session("one", project).files())
    env = environment(workspace) | {"POSTHOG_HOST": posthog.url}
    assert (await verb(workspace, "config", "allow", project, env=env)).status == 0

    broken = env | {"HTTP_PROXY": "gopher://proxy:70"}
    once = await verb(workspace, "run", "--once", "--log-format", "json", env=broken)
    assert once.status == 1
    [stopped] = [line for line in log_lines(once.stderr) if line["event"] == "delivery_stopped"]
    assert "proxy" in stopped["reason"]
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert posthog.events


async def test_in_80_columns_no_name_is_broken(workspace: Workspace) -> None:
    env = environment(workspace) | {"NO_COLOR": "1"}
    lines = (await on_terminal(workspace, "config", env=env)).stdout.splitlines()
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in lines)
    assert {setting.variable for setting in SETTINGS} <= {word for line in lines for word in line.split()}
