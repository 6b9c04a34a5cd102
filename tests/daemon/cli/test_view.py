"""`view` serves its page as soon as it has printed the address."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.client import Workspace, start
from tests.support.processes import ROOT, environment
from tests.support.waiting import PATIENCE

_BROWSER = """
import pathlib, sys, urllib.request
from http.cookiejar import CookieJar
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
try:
    found = opener.open(sys.argv[2], timeout=%f).read().decode()
except Exception as error:
    found = repr(error)
pathlib.Path(sys.argv[1]).write_text(found)
print("shown", flush=True)
"""


async def test_a_browser_that_is_quick_and_stays_gets_the_page(workspace: Workspace, tmp_path: Path) -> None:
    program, shown = tmp_path / "browser.py", tmp_path / "shown.html"
    program.write_text(_BROWSER % PATIENCE)
    async with start(
        [sys.executable, "-m", "daemon.cli", "view"],
        name="view",
        environment={**environment(workspace), "BROWSER": f"{sys.executable} {program} {shown} %s"},
        cwd=ROOT,
        output=workspace.output,
        forks=workspace.forks,
    ) as view:
        # It ends after it was answered: whoever waits for its end before answering never answers.
        await view.until(lambda: "shown" in view.stdout)
        assert "<h1>Overview</h1>" in shown.read_text()
        view.terminate()
        assert await view.wait() == 0
