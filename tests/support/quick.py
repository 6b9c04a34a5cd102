"""`python -m tests.support.quick`: the daemon with a faster cadence."""

from __future__ import annotations

from daemon.cli import run_main
from daemon.following.cadence import Cadence

if __name__ == "__main__":
    run_main(Cadence(tick=0.05, hot_sweep=0.2, store_retry=0.1))
