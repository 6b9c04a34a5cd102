from __future__ import annotations

import subprocess
import sys

from tests.support.waiting import PATIENCE


def test_the_libraries_are_imported_without_rich_which_can_be_imported_later() -> None:
    code = """
import sys
from daemon.running.slim import import_slim
import_slim()
assert {"structlog", "httpx"} <= sys.modules.keys()
assert not {name for name in sys.modules if name.partition(".")[0] in ("rich", "pygments")}
from rich.console import Console
import structlog, httpx
structlog.get_logger().info("fine")
httpx.Client().close()
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
