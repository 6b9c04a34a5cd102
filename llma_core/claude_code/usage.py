"""Combines the token counts of one message's lines.

Every line of a message has the counts of the whole message, so they are never added up. Input and cache counts are the
same on all lines. The final output count comes last, together with the stop reason. In logs that were written while the
message streamed (main files up to 2.1.72, subagents up to 2.1.300), only the last lines have it, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llma_core.spans import TokenUsage

__all__ = ["Reading", "combine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The token counts on one line of a message.

    Attributes:
        usage: the counts.
        final: whether the line has a stop reason, so that its counts are final.
    """

    usage: TokenUsage
    final: bool


def _greatest(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def combine(readings: Sequence[Reading]) -> TokenUsage | None:
    """Return a message's counts: those of the last line with a stop reason, else the maximum of each count.

    Returns None if there are no readings.
    """
    if not readings:
        return None
    for reading in reversed(readings):
        if reading.final:
            return reading.usage
    usages = [reading.usage for reading in readings]
    fullest = max(reversed(usages), key=lambda usage: usage.output or 0)
    return TokenUsage(
        input=_greatest([usage.input for usage in usages]),
        output=_greatest([usage.output for usage in usages]),
        cache_read=_greatest([usage.cache_read for usage in usages]),
        cache_creation=_greatest([usage.cache_creation for usage in usages]),
        cache_creation_5m=_greatest([usage.cache_creation_5m for usage in usages]),
        cache_creation_1h=_greatest([usage.cache_creation_1h for usage in usages]),
        reasoning=_greatest([usage.reasoning for usage in usages]),
        web_searches=_greatest([usage.web_searches for usage in usages]),
        service_tier=fullest.service_tier,
        speed=fullest.speed,
        inner=fullest.inner,
        raw=fullest.raw,
    )
