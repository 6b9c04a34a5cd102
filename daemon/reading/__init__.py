"""From new bytes to events, and from delivered events to committed offsets.

`reader` and `open_sessions` are what everything that reads sessions drives: the service, `tail`, `preview` and the
estimate of a backfill. `settlement` decides which offsets may be committed.
"""

from __future__ import annotations
