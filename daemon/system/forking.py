"""Forking: what a process does before it forks others that do what it could do itself."""

from __future__ import annotations

import gc

from daemon.system import collector
from llma_core import screen

__all__ = ["get_ready"]


def get_ready() -> None:
    """Build what every forked process would build for itself, and let none of them look at what is there already.

    That is the automaton that looks for secrets. The garbage collector would write to what it looks at, which the
    processes share as long as nobody writes to it.
    """
    screen.prepare()
    gc.collect()
    collector.pass_over()
