"""How the events of Claude Code's sessions are named: as PostHog's own plugin names them."""

from __future__ import annotations

from llma_core.spans import Framework

__all__ = ["FRAMEWORK"]

FRAMEWORK = Framework(name="claude-code", prefix="claude_code_", ids="cc-")
"""The names under which the receiver knows Claude Code."""
