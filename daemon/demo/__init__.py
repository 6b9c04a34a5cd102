"""A recorded Claude Code session, and the player that writes it again as if it happened now.

The command line and tests import `player`.
"""

from __future__ import annotations
