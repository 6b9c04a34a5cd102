"""What a real client on its terminal waits for, as the page shows it: permission, an answer, the next prompt."""

from __future__ import annotations

import asyncio
import re
import sys

import httpx
import pytest

from tests.support.client import Client, Workspace, start
from tests.support.messages_api import MessagesApi, Step, Text, ToolUse, bash
from tests.support.processes import ROOT, environment
from tests.support.terminal import Keyboard, client_on_terminal
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

_QUESTION = {
    "question": "Which tree?",
    "header": "Tree",
    "multiSelect": False,
    "options": [{"label": "Apple", "description": "Old"}, {"label": "Pear", "description": "Young"}],
}
_SCRIPT = (
    Step(blocks=(bash("touch made.txt"),)),
    Step(blocks=(ToolUse(name="AskUserQuestion", input={"questions": [_QUESTION]}),)),
    Step(blocks=(Text(text="Thank you."),), hold="answer"),
)


async def _shown(browser: httpx.AsyncClient, words: str, keyboard: Keyboard) -> None:
    """Wait until the part of the page that shows running sessions shows *words*."""
    page = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while words not in (page := (await browser.get("/parts/running")).text):  # noqa: ASYNC110 - made elsewhere
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(f"no {words!r} in {page!r}; the client shows {keyboard.seen[-2000:]!r}") from None


async def test_the_page_says_what_a_session_waits_for(client: Client, workspace: Workspace) -> None:
    if client.is_old:
        pytest.skip("old clients keep no registry of running sessions")
    cwd = workspace.work / "ask"
    cwd.mkdir()
    with MessagesApi({"ask": _SCRIPT}, name="ask") as api:
        async with (
            start(
                [sys.executable, "-m", "daemon.cli", "view", "--no-open"],
                name="view",
                environment=environment(workspace),
                cwd=ROOT,
                output=workspace.output,
                forks=workspace.forks,
            ) as view,
            client_on_terminal(
                client,
                "Do it. [[ask]]",
                *("--permission-mode", "default"),
                workspace=workspace,
                cwd=cwd,
                api_url=api.url,
            ) as keyboard,
        ):
            await view.until(lambda: "http://" in view.stdout)
            [address] = re.findall(r"http://\S+", view.stdout)
            async with httpx.AsyncClient(base_url=address.partition("?")[0], timeout=PATIENCE) as browser:
                await browser.get(address, follow_redirects=True)
                await _shown(browser, "waits for you: permission prompt", keyboard)
                keyboard.press("\r")
                await _shown(browser, "waits for you: input needed", keyboard)
                assert (cwd / "made.txt").exists()
                keyboard.press("\r")
                # Answered, it works until the model has said the last word.
                await _shown(browser, ">works<", keyboard)
                api.release("answer")
                await _shown(browser, "waits for you: next prompt", keyboard)
