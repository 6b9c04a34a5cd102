"""Following: which bytes of which logs are new.

Import `logs` to learn which sessions have something new to read; it puts the catalog, the sweep and the files kept open
together. A driver adds a `watcher`, a `schedule` and a `cadence` to it. Code that reads a session imports `tailer`,
`glances`, `session_files` and `opening`. Code that needs no more than the files on disk imports `log_roots`,
`log_tree`, `catalog` and `live_sessions`. `sweep` is for this wing alone, except `FileStat`.
"""

from __future__ import annotations
