"""The faster cadence of the processes that tests start, and how a test changes it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from daemon.following.cadence import Cadence

__all__ = ["CADENCE", "cadence", "cadence_variables"]

CADENCE = Cadence(tick=0.05, hot_sweep=0.05, store_retry=0.1, health=0.5)

_VARIABLE = "LLMA_TEST_CADENCE"


def cadence_variables(**seconds: float) -> dict[str, str]:
    """Return what a process needs in its environment to go by these times instead of those of `CADENCE`."""
    return {_VARIABLE: json.dumps(seconds)}


def cadence() -> Cadence:
    """Return the cadence that this process's environment asks for."""
    return replace(CADENCE, **json.loads(os.environ.get(_VARIABLE, "{}")))
