"""How several readings of one message's token counts become one.

Every line of a message carries the whole message's usage, so readings are never added. Input and cache counts are the
same on all of them; output_tokens and the stop reason come last, and in logs written while the message streamed (main
files up to 2.1.72, subagents up to 2.1.300) only the last lines hold the final number, or none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llma_core.spans import TokenUsage

__all__ = ["Reading", "combine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The usage one line of a message shows.

    Attributes:
        usage: the counts.
        final: whether the line has a stop reason, so that its counts are the message's last word.
    """

    usage: TokenUsage
    final: bool


def _greatest(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def combine(readings: Sequence[Reading]) -> TokenUsage | None:
    """Return a message's usage: the last reading with a stop reason, else each count's maximum; None without any."""
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
        raw=fullest.raw,
    )
