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
from tests.support.client import Client, Workspace, client_environment, start
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


async def asked(client: Client, workspace: Workspace, *prompts: str, env: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Give the client *prompts*, one after the other in one session.

    Returns:
        The session's id, and what the client asked the API with each prompt, by the prompt.
    """
    given = [{"type": "user", "message": {"role": "user", "content": prompt}} for prompt in prompts]
    streams = ("--input-format", "stream-json", "--output-format", "stream-json", "--verbose")
    with MessagesApi(SCRIPTS) as api:
        async with start(
            [*client.command, "-p", *streams],
            name=prompts[0][1:],
            environment=client_environment(workspace, api.url, **env),
            cwd=workspace.work,
            output=workspace.output,
            given="".join(json.dumps(message) + "\n" for message in given).encode(),
        ) as child:
            assert await child.wait() == 0, child.stdout + child.stderr
            said = [json.loads(line) for line in child.stdout.splitlines()]
        last = [
            [message for message in request["messages"] if message["role"] == "user"][-1]
            for request in api.requests.values()
        ]
    [session] = {line["session_id"] for line in said if line["type"] == "result"}
    return session, {prompt: json.dumps(message) for prompt, message in zip(prompts, last, strict=True)}


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
        off = env | {"POSTHOG_LLMA_CC_ENABLED": "false"}
        _, requests = await asked(client, installed, "/llma:llma-open", env=off)
        assert "`posthog-llma-daemon view` shows sessions on this machine" in requests["/llma:llma-open"]
        prompts = ("/llma:llma-open", "/llma:llma-cost", "/llma:llma-status")
        session, requests = await asked(client, installed, *prompts, env=env)
        assert trace_url(posthog.url, session) in requests["/llma:llma-open"]
        assert "Dollars are estimates at API list prices" in requests["/llma:llma-cost"]
        assert re.search(r"\$\d+\.\d+ session", requests["/llma:llma-cost"])
        status = await verb(installed, "status", env=variables)
        said = (status.stdout + status.stderr).splitlines()
        assert [line for line in said if json.dumps(line)[1:-1] not in requests["/llma:llma-status"]] == []
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
