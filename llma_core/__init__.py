"""From lines of an agent's session log to the events PostHog LLM Analytics takes: the pure half of the daemon."""

from __future__ import annotations

__version__ = "0.1.0"
