"""`python -m tests.support.quick`: the command line with a faster cadence, so that tests do not wait for its polls."""

from __future__ import annotations

import os

from daemon.cli import run_main
from daemon.system import disk
from tests.support.cadence import cadence

if __name__ == "__main__":
    if patience := os.environ.get("QUICK_PATIENCE"):
        # In seconds: how soon a folder counts as hanging.
        disk.PATIENCE = disk.LOOP_PATIENCE = float(patience)
    run_main(cadence())
