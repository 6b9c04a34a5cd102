"""Completion: work that is done to its end although whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

__all__ = ["uninterrupted"]

_T = TypeVar("_T")


async def uninterrupted(work: Coroutine[object, object, _T] | asyncio.Future[_T]) -> _T:
    """Await *work* to its end, and return its result. Raise a cancellation that arrives meanwhile only after that.

    Raises:
        Exception: the error of *work*, even if a cancellation arrived.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
