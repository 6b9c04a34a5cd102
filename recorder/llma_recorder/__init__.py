"""Records LLM calls of your own code for PostHog LLM Analytics."""

from __future__ import annotations

__version__ = "0.1.0"
