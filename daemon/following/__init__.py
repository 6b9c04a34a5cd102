"""Following: which bytes of which logs are new.

Import `logs` to learn which sessions have something new to read; it puts the catalog, the sweep and the files kept open
together. A driver adds a `watcher`, a `schedule` and a `cadence` to it. Code that reads a session imports `tailer`,
`session_files` and `opening`. Anything may import `log_roots`, `log_tree` and `live_sessions`. `catalog` and `sweep`
belong to this wing.
"""

from __future__ import annotations
