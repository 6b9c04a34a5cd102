"""The garbage collector: what it need not look at, and when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pass_over", "paused"]

_THRESHOLDS = (10_000, 20, 20)
"""Python looks for unreachable objects after 700 new ones: a hundred times a second where history is read, which makes
hardly any."""


def pass_over() -> None:
    """Let the collector pass over everything that is there now, for good, and look less often at what is new.

    The modules stay. Whenever the collector looks at everything, they would be most of it, and whoever reads history
    makes it look often.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing within the block: importing makes many objects that stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
