"""The page in a real browser: it shows what sessions did, live, and nothing in a log acts.

Needs a Chromium on the machine: `LLMACHROMIUM`, or one on the PATH. `.ci/run` installs one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, async_playwright, expect

from tests.support.browser import CHROMIUM, FLAGS
from tests.support.client import Workspace, start
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import ROOT, environment
from tests.support.waiting import PATIENCE

_SESSION = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\x1b[31m\u202e[x](javascript:document.title='owned') {{ 7*7 }} {% raw %}"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; set LLMACHROMIUM")


@dataclass
class Shown:
    """A page in a browser, with the log that it follows.

    Attributes:
        problems: what the browser complained about: errors of scripts, and what its policy stopped.
    """

    page: Page
    base: str
    log: LogBuilder
    projects: Path
    problems: list[str]

    def write(self) -> None:
        self.log.write(self.projects)

    def register(self, **said: str) -> None:
        """Write the record of this process, as a client does that runs the session."""
        record = self.projects.parent / "sessions" / f"{os.getpid()}.json"
        record.write_text(json.dumps({"pid": os.getpid(), "sessionId": _SESSION, **said}))

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.base}{path}")


def turn(log: LogBuilder, number: int) -> None:
    log.prompt(f"Prune tree {number} {HOSTILE}")
    log.answer(text(f"I will look. {HOSTILE}"), tool_use("Bash", {"command": f"ls {HOSTILE}"}, id=f"toolu_{number}"))
    log.tool_result(f"toolu_{number}", f"apple {HOSTILE}", error=number == 1)
    log.answer(text(f"**Done** with {number}. {HOSTILE}"))


_FOCUS = """
() => {
  const focused = document.activeElement, style = getComputedStyle(focused);
  return [focused !== document.body, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1];
}
"""
"""Tells whether something has the focus, and whether that can be seen."""


_LAST_BAR_ENDS = """
() => chart.valToPos(chart.data[0].at(-1) + 0.35 * 86400, "x") / (chart.bbox.width / devicePixelRatio)
"""
"""Tells where the last bar ends, as a part of the width of the drawing."""


def _violations(results: Any) -> list[str]:
    return [
        f"{found['id']}: {found['help']}: {node['html'][:200]}"
        for found in results.response["violations"]
        for node in found["nodes"]
    ]


@pytest.fixture
async def shown(workspace: Workspace) -> AsyncIterator[Shown]:
    begun = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")
    log = LogBuilder(session=_SESSION, start=begun.replace("+00:00", "Z"))
    for number in range(3):
        turn(log, number)
    log.write(workspace.config / "projects")
    registry = workspace.config / "sessions"
    registry.mkdir()
    record = {"pid": os.getpid(), "sessionId": _SESSION, "status": "waiting", "waitingFor": "permission prompt"}
    (registry / f"{os.getpid()}.json").write_text(json.dumps(record))
    async with start(
        [sys.executable, "-m", "daemon.cli", "view", "--no-open"],
        name="view",
        environment=environment(workspace),
        cwd=ROOT,
        output=workspace.output,
        forks=workspace.forks,
    ) as view:
        await view.until(lambda: re.search(r"http://\S+\s", view.stdout) is not None)
        [address] = re.findall(r"http://\S+", view.stdout)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            context = await browser.new_context(viewport={"width": 1280, "height": 800})
            context.set_default_timeout(PATIENCE * 1000)
            expect.set_options(timeout=PATIENCE * 1000)
            page = await context.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
            await page.goto(address)
            yield Shown(page, address.partition("/?")[0], log, workspace.config / "projects", problems)
            await browser.close()
        view.terminate()
        assert await view.wait() == 0


async def test_the_page_shows_sessions_live_and_nothing_in_a_log_acts(shown: Shown) -> None:
    # One browser for both: it takes as long to start as to show everything.
    await sessions_are_live(shown)
    await many_steps_are_few_elements(shown)


async def sessions_are_live(shown: Shown) -> None:
    page = shown.page
    # The token is gone from the address.
    assert page.url == f"{shown.base}/"
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator(".card").first).to_contain_text("$0.0")
    await expect(page.locator(".running .state")).to_have_text("waits for you: permission prompt")
    shown.register(status="busy")
    await expect(page.locator(".running .state")).to_have_text("works")

    # Today's bar, which is the last one, is as wide as any other.
    await expect(page.locator("#days canvas")).to_be_visible()
    assert await page.evaluate(_LAST_BAR_ENDS) < 1

    await shown.open("/sessions")
    row = page.locator("[data-row]")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("Prune tree 0")
    await page.locator('input[type="search"]').fill("nowhere")
    await expect(row).to_have_count(0)
    await page.locator('input[type="search"]').fill("prune")
    await expect(row).to_have_count(1)

    # Wherever the keyboard leads, it can be seen.
    for _ in range(5):
        await page.keyboard.press("Tab")
        assert await page.evaluate(_FOCUS) == [True, True]

    # The table that is made anew while somebody is in it keeps the focus where it was.
    link = row.get_by_role("link")
    await link.focus()
    old = await link.element_handle()
    await page.evaluate("document.body.dispatchEvent(new CustomEvent('live'))")
    assert old is not None
    await old.wait_for_element_state("hidden")
    await expect(link).to_be_focused()

    # By the keyboard alone: out of the field, to the row, into the session, along its steps.
    await page.locator('input[type="search"]').focus()
    await page.keyboard.press("Escape")
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/sessions/*")
    steps = page.locator(".row")
    await expect(steps).to_have_count(9)
    await expect(steps.first).to_contain_text("> Prune tree 0")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    detail = page.locator("#step")
    await expect(detail).to_contain_text("apple")
    await expect(detail).to_contain_text("<script>")
    await expect(page.locator('.row[aria-selected="true"]')).to_contain_text("Bash")
    await detail.locator("summary", has_text="What leaves").click()
    await expect(detail).to_contain_text("Nothing is left out")
    await expect(detail).to_contain_text(".jsonl, line")
    await page.keyboard.press("j")
    await expect(detail.locator("strong").first).to_have_text("Done")

    turn(shown.log, 3)
    shown.write()
    await expect(steps).to_have_count(12)

    for number, path in enumerate(("/", "/sessions", f"/sessions/{_SESSION}", "/delivery", "/nowhere")):
        await page.emulate_media(color_scheme="light" if number % 2 else "dark", reduced_motion="reduce")
        await shown.open(path)
        await expect(page.locator("h1")).to_be_visible()
        assert await page.title() != "owned"
        for width in (400, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (path, width, wide)
            if number % 2 == (width == 400):
                # Contrast of all text, roles, names and labels, with the rules of axe-core.
                assert _violations(await Axe().run(page)) == [], (path, width)
        transitions = await page.evaluate(
            "[...document.querySelectorAll('*')].map((each) => getComputedStyle(each).transitionDuration)"
        )
        assert set(transitions) == {"0s"}
    assert [problem for problem in shown.problems if "404" not in problem] == []


async def many_steps_are_few_elements(shown: Shown) -> None:
    shown.problems.clear()
    for number in range(100, 1096):
        shown.log.answer(tool_use("Bash", {"command": f"echo {number}"}, id=f"toolu_{number}"))
        shown.log.tool_result(f"toolu_{number}", "ok")
    shown.write()
    await shown.open(f"/sessions/{_SESSION}")
    steps = shown.page.locator("#steps")
    await expect(steps).to_have_attribute("aria-label", "2004 steps")
    await steps.evaluate("place => { place.scrollTop = place.scrollHeight; }")
    await expect(shown.page.locator(".row").last).to_contain_text("Bash")
    assert await shown.page.locator(".row").count() < 100
    assert shown.problems == []
