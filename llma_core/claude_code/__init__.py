"""Everything that knows Claude Code: where its logs lie, what its lines say, how a session becomes spans."""

from __future__ import annotations
