"""The picture of `view` for the README: `python -m tests.screenshots.page [FILE]`.

It shows the demo's session in a real browser, `LLMA_CHROMIUM` or one on the PATH. Browsers draw the same page
differently, so nothing compares the picture: draw it anew when the page has changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from daemon.demo.player import SESSION, steps
from tests.screenshots.__main__ import FOLDER
from tests.support.processes import ROOT
from tests.support.waiting import PATIENCE

__all__ = ["draw"]

_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_SIZE = {"width": 1280, "height": 800}


def draw(file: Path) -> None:
    """Write the picture into *file*, as PNG.

    Raises:
        RuntimeError: there is no Chromium, or `view` does not start.
    """
    chromium = os.environ.get("LLMA_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise RuntimeError("no Chromium here; set LLMA_CHROMIUM")
    with TemporaryDirectory() as folder:
        for step in steps(datetime.now(UTC) - timedelta(minutes=2)):
            step.write(Path(folder) / ".claude" / "projects")
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "POSTHOG_LLMA_DISTINCT_ID": "demo@example.com"}
        command = [sys.executable, "-m", "daemon.cli", "view", "--no-open"]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as served:
            try:
                assert served.stdout is not None
                found = re.search(r"http://\S+", served.stdout.readline())
                if found is None:
                    raise RuntimeError("`view` does not start")
                _photograph(chromium, found[0], file)
            finally:
                served.terminate()


def _photograph(chromium: str, address: str, file: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type] # a dictionary of these two is one
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(address)
        page.goto(f"{address.partition('/?')[0]}/sessions/{SESSION}")
        page.get_by_text("grep -n wait tests/test_retry.py").first.wait_for()
        page.get_by_text("Edit", exact=True).first.click()
        page.get_by_text("Choose a step to see it.").wait_for(state="detached")
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "page.png")
