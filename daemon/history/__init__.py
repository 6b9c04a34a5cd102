"""History: sessions that existed before the daemon.

The service imports `first_start` (what to do with them at the first start), `backfilling` (sends them on request) and
`pruning` (forgets them). The command line imports `backfill_job`, and from `history` and `estimate` the values it takes
and returns: which sessions are on disk, and what sending them would amount to. Both sides import `backfill_request` and
`backlog`: what to send, and the progress.
"""

from __future__ import annotations
