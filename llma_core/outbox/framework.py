"""How the events of recorded lines are named."""

from __future__ import annotations

from llma_core.spans import Framework

__all__ = ["FRAMEWORK"]

FRAMEWORK = Framework(name="llma-recorder", prefix="recorder_", ids="rec-", library="llma-recorder")
"""The recorder's names. Its uuids are those of the lines."""
