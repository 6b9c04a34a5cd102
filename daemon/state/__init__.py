"""What survives a restart: the store, the lock, and the names of all files in the state directory (`layout`).

Other wings import `store` (writes), `reader` (looks things up), `rows` (the values of both), `lock` and `layout`.
"""

from __future__ import annotations
