"""`python -m tests.support.macos`: the command line as on macOS.

What the verbs import is imported as on this machine; only what they decide is as on the other.
"""

from __future__ import annotations

import sys

import daemon.cli.install
import daemon.cli.logs
import daemon.cli.restart
import daemon.cli.start
import daemon.cli.stop
import daemon.cli.uninstall
import daemon.installing.launchd  # noqa: F401 - imported before the platform seems another
from daemon.cli import run_main

if __name__ == "__main__":
    sys.platform = "darwin"
    run_main()
