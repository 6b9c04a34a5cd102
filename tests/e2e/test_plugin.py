"""The plugin in `plugin/`, in a real client: its commands bring what the daemon says into the conversation."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from daemon.delivering.posthog.web_app import trace_url
from llma_core import __version__
from tests.support.capture_server import CaptureServer
from tests.support.client import Client, Workspace, start_client
from tests.support.documents import DOCS, Document
from tests.support.managers import Managers
from tests.support.messages_api import MessagesApi
from tests.support.processes import ROOT, environment, verb
from tests.support.scenarios import SCRIPTS
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

PLUGIN = ROOT / "plugin"


def plugin_command(client: Client, workspace: Workspace, *arguments: str) -> str:
    """Run `claude plugin` with *arguments*, and return what it prints."""
    done = subprocess.run(
        [*client.command, "plugin", *arguments],
        env=workspace.environment(DISABLE_AUTOUPDATER="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def installed(client: Client, workspace: Workspace) -> Workspace:
    """A machine whose client has the plugin, installed as the page says."""
    plugin_command(client, workspace, "validate", str(PLUGIN))
    [block] = [block for block in Document(DOCS / "plugin.md").blocks if block.language == "sh"]
    for line in block.text.splitlines():
        program, plugin, *arguments = shlex.split(line)
        assert (program, plugin) == ("claude", "plugin")
        plugin_command(client, workspace, *arguments)
    return workspace


async def asked(client: Client, workspace: Workspace, prompt: str, env: dict[str, str]) -> tuple[str, str]:
    """Give the client *prompt*; return the session's id and everything that it asked the API."""
    with MessagesApi(SCRIPTS) as api:
        async with start_client(
            client,
            prompt,
            name=prompt[1:],
            workspace=workspace,
            cwd=workspace.work,
            api_url=api.url,
            # The commands have to bring their permissions along.
            tools="",
            **env,
        ) as child:
            assert await child.wait() == 0, child.stdout + child.stderr
            session = json.loads(child.stdout)["session_id"]
        return session, json.dumps(list(api.requests.values()))


@pytest.mark.parametrize("client", ["current"], indirect=True)
async def test_its_commands_bring_what_the_daemon_says_into_the_conversation(
    client: Client, installed: Workspace
) -> None:
    details = plugin_command(client, installed, "details", "llma")
    assert "llma-cost, llma-open, llma-status" in details
    assert "Hooks (0)" in details
    programs = Managers(installed).programs
    async with CaptureServer() as posthog:
        variables = environment(installed, posthog.url)
        env = {name: value for name, value in variables.items() if name.startswith("POSTHOG")}
        env |= {"PATH": f"{programs}:{variables['PATH']}", "PYTHONPATH": str(ROOT)}
        session, requests = await asked(client, installed, "/llma:llma-open", env)
        assert trace_url(posthog.url, session) in requests
        _, requests = await asked(client, installed, "/llma:llma-cost", env)
        assert "Dollars are estimates at API list prices" in requests
        assert re.search(r"\$\d+\.\d+ session", requests)
        _, requests = await asked(client, installed, "/llma:llma-open", env | {"POSTHOG_LLMA_CC_ENABLED": "false"})
        assert "`posthog-llma-daemon view` shows sessions on this machine" in requests
        _, requests = await asked(client, installed, "/llma:llma-status", env)
        status = await verb(installed, "status", env=variables)
        said = (status.stdout + status.stderr).splitlines()
        assert [line for line in said if json.dumps(line)[1:-1] not in requests] == []
        assert said
        assert posthog.requests == [], "the plugin sends nothing"


def test_its_version_is_that_of_the_daemon() -> None:
    assert json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text("utf-8"))["version"] == __version__


@pytest.mark.parametrize(
    ("config", "shown"),
    [("", "$0.00 session · $0.00 today"), ("nonsense = [", "no costs: see posthog-llma-daemon doctor")],
)
def test_the_status_line_says_what_the_session_cost(workspace: Workspace, config: str, shown: str) -> None:
    managers = Managers(workspace)
    variables = environment(workspace)
    written = workspace.home / ".config" / "posthog-llma-daemon" / "config.toml"
    written.parent.mkdir(parents=True)
    written.write_text(config)
    given = json.dumps({"hook_event_name": "Status", "session_id": "0f6b1d1c-9f3e-4d0a-8f0b-6d8f3b1c2a7e"})
    done = subprocess.run(
        [PLUGIN / "status-line.sh"],
        env=variables | {"PATH": f"{managers.programs}:{variables['PATH']}"},
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.splitlines() == [shown]
