"""`completion` prints scripts that shells accept and that complete this command line."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support.client import Workspace
from tests.support.processes import environment, verb
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


async def test_it_completes_verbs_and_options(workspace: Workspace) -> None:
    # click derives the name of the variable from the program, which is a module here.
    def asking(words: str, at: int) -> dict[str, str]:
        variables = {
            "_PYTHON _M TESTS_SUPPORT_QUICK_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(at),
        }
        return environment(workspace) | variables

    verbs = await verb(workspace, env=asking("posthog-llma-daemon back", 1))
    assert verbs.stdout == "plain,backfill\n"
    options = await verb(workspace, env=asking("posthog-llma-daemon backfill --expi", 2))
    assert options.stdout == "plain,--expiring\n"
