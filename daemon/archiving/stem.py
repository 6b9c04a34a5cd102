"""What every worker of the fork server begins with. Importing this module makes it.

A worker that is forked afterwards does not build the automaton that looks for secrets, and its garbage collector never
looks at what was imported before.
"""

from __future__ import annotations

import gc

from llma_core import screen

__all__: list[str] = []

screen.prepare()
gc.collect()
gc.freeze()
