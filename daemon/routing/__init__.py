"""Where a session's events go, whose they are, and whether the session has to wait for the user's approval.

The reader imports `routing` and `decisions`.
"""

from __future__ import annotations
