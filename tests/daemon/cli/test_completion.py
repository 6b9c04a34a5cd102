"""`completion` prints scripts that shells accept and that complete this command line."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from daemon.config.table import SETTINGS
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import environment, put_logs, session_id, verb
from tests.support.waiting import PATIENCE


def complaints(shell: str, script: str) -> str:
    """Return what *shell* has to say against a script that it only reads."""
    return subprocess.run(
        [shell, "-n"], input=script, capture_output=True, text=True, timeout=PATIENCE, check=False
    ).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_script_is_printed(workspace: Workspace, shell: str) -> None:
    said = await verb(workspace, "completion", shell)
    assert (said.status, said.stderr) == (0, "")
    assert f"{shell}_complete" in said.stdout
    assert "posthog-llma-daemon" in said.stdout
    if shutil.which(shell):
        assert complaints(shell, said.stdout) == ""


async def test_help_shows_one_command_per_line(workspace: Workspace) -> None:
    lines = (await verb(workspace, "completion", "--help")).stdout.splitlines()
    for command in (
        'eval "$(posthog-llma-daemon completion bash)"',
        'eval "$(posthog-llma-daemon completion zsh)"',
        "posthog-llma-daemon completion fish | source",
    ):
        assert f"    {command}" in lines


async def test_another_shell_is_bad_usage(workspace: Workspace) -> None:
    assert (await verb(workspace, "completion", "tcsh")).status == 2


async def completed(workspace: Workspace, words: str, shell: str = "bash", **variables: str) -> list[str]:
    """Return what is offered for the last of *words*, which may be empty."""
    # click derives the name of the variable from the program, which is a module here.
    position = str(len(words.split(" ")) - 1)
    asking = {
        "_PYTHON _M TESTS_SUPPORT_QUICK_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": position,
    }
    said = await verb(workspace, env=environment(workspace, **variables) | asking)
    assert (said.status, said.stderr) == (0, "")
    return said.stdout.strip("\n").split("\n") if said.stdout.strip("\n") else []


async def offered(workspace: Workspace, words: str, **variables: str) -> list[str]:
    return [
        line.removeprefix("plain,") for line in await completed(workspace, f"posthog-llma-daemon {words}", **variables)
    ]


async def test_it_completes_verbs_and_options(workspace: Workspace) -> None:
    assert await offered(workspace, "back") == ["backfill"]
    assert await offered(workspace, "backfill --expi") == ["--expiring"]
    assert await offered(workspace, "run --log-level w") == ["warning"]


async def test_it_completes_settings_and_their_values(workspace: Workspace) -> None:
    assert await offered(workspace, "config set con") == ["content"]
    assert await offered(workspace, "config set POSTHOG_LLMA_C") == [
        "POSTHOG_LLMA_CC_ENABLED",
        "POSTHOG_LLMA_CONTENT",
        "POSTHOG_LLMA_CUSTOM_PROPERTIES",
    ]
    assert "api_key" not in await offered(workspace, "config set "), "a key is no argument"
    for name, begun, values in (
        ("content", "", ["full", "no_tool_content", "metadata"]),
        ("POSTHOG_LLMA_CONTENT", "me", ["metadata"]),
        ("redact-secrets", "", ["true", "false"]),
        ("enabled", "p", ["projects"]),
        ("trace_grouping", "", ["session", "message"]),
        ("host", "eu", ["eu.i.posthog.com"]),
        ("state_dir", "", ["dir,"]),
        ("purpose", "", []),
        ("no_such_setting", "", []),
    ):
        assert await offered(workspace, f"config set {name} {begun}") == values, name


async def test_values_that_are_offered_are_accepted(workspace: Workspace) -> None:
    for setting in SETTINGS:
        if setting.secret:
            continue
        for value in await offered(workspace, f"config set {setting.key} "):
            if not value.startswith("dir,"):
                ended = await verb(workspace, "config", "set", setting.key, value)
                assert ended.status == 0, (setting.key, value, ended.stderr)


async def test_it_completes_sessions_the_latest_first(workspace: Workspace) -> None:
    ids = [f"{digit}1111111-2222-4333-8444-555555555555" for digit in "ab"]
    for age, session in enumerate(ids):
        log = LogBuilder(session, cwd="/home/ada/orchard\x1b[2J")
        log.prompt("hello")
        put_logs(workspace, log.files(), age=3600 * (age + 1))
    for words in ("tail --session ", "backfill --session ", "traces --url "):
        assert await offered(workspace, words) == ids
    assert await offered(workspace, "tail --session b") == ids[1:]
    assert await offered(workspace, "traces ") == []
    described = await completed(workspace, "posthog-llma-daemon tail --session a", shell="zsh")
    assert described == ["plain", ids[0], "/home/ada/orchard [2J, 60 min ago"]


async def test_it_completes_local_traces(workspace: Workspace) -> None:
    log = LogBuilder(session_id("local"))
    log.prompt("Plant a tree")
    log.answer(text("planted"), id="msg_a")
    put_logs(workspace, log.files())
    assert (await verb(workspace, "run", "--local", "--once")).status == 0
    assert await offered(workspace, f"traces {session_id('local')[:4]}") == [session_id("local")]


async def test_completion_is_silent_when_nothing_can_be_read(workspace: Workspace) -> None:
    for words in ("tail --session ", "traces ", "preview --event ", "traces --url "):
        assert await offered(workspace, words, POSTHOG_LLMA_CONTENT="some") == []
