"""Everything specific to Claude Code: where its logs are, what their lines mean, how a session becomes spans."""

from __future__ import annotations
