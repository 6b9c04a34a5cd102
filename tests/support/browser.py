"""The Chromium of this machine, for tests and benchmarks of the page: `LLMA_CHROMIUM`, or one on the PATH."""

from __future__ import annotations

import os
import shutil

__all__ = ["CHROMIUM", "FLAGS"]

CHROMIUM = os.environ.get("LLMA_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
"""The program; None without one."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
