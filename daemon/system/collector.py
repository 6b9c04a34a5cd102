"""The garbage collector: what it need not look at, and when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pass_over", "paused"]


def pass_over() -> None:
    """Let the collector pass over everything that is there now, for good.

    The modules stay. Whenever the collector looks at everything, they would be most of it, and whoever reads history
    makes it look often.
    """
    gc.freeze()


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
