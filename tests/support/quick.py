"""`python -m tests.support.quick`: the command line with a faster cadence, so that tests do not wait for its polls."""

from __future__ import annotations

from daemon.cli import run_main
from tests.support.cadence import cadence

if __name__ == "__main__":
    run_main(cadence())
