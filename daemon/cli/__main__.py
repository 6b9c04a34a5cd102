"""`python -m daemon.cli`: the command line, without an installed script."""

from __future__ import annotations

from daemon.cli import run_main

if __name__ == "__main__":
    run_main()
