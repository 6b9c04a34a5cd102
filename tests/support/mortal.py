"""`python -m tests.support.mortal`: the command line, which dies as if by SIGKILL while it fills the local file.

`LLMA_DIES` says when. `adding 3` is once the third batch is written and before its transaction ends, `added 3` once
that has ended; `indexing 3` and `indexed 3` are the same for what a search indexes. Batches have at most ten events,
and no texts of them are indexed before somebody searches.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from daemon.cli import run_main
from daemon.delivering import batcher
from daemon.delivering.local import schema, sink, text_index
from tests.support.cadence import cadence


class _Fate:
    """Lets the process die when the chosen step is reached for the given time."""

    def __init__(self, chosen: str) -> None:
        self._step, _, number = chosen.partition(" ")
        self._left = int(number or 0)

    def after(self, step: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Return *action*, after which the step *step* is reached."""

        def act(*arguments: Any) -> Any:
            done = action(*arguments)
            if step == self._step:
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)
            return done

        return act


def _prepare(fate: _Fate) -> None:
    batcher.LARGE = batcher.BatchLimits(count=10)
    text_index._AT_ONCE = 10
    schema.add = fate.after("adding", schema.add)
    sink.LocalSink._keep = fate.after("added", sink.LocalSink._keep)  # type: ignore[method-assign] # as a method
    schema.index_more = fate.after("indexing", schema.index_more)
    text_index._index_some = fate.after("indexed", text_index._index_some)


if __name__ == "__main__":
    _prepare(_Fate(os.environ.get("LLMA_DIES", "")))
    run_main(replace(cadence(), few_texts=1))
