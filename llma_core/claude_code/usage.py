"""Combines the token counts of one message's lines.

Every line of a message has the counts of the whole message, so they are never added up. Input and cache counts are the
same on all lines. The final output count comes last, together with the stop reason. In logs that were written while the
message streamed (main files up to 2.1.72, subagents up to 2.1.300), only the last lines have it, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llma_core.spans import TokenUsage

__all__ = ["Reading", "combine"]


_COUNTS = ("input", "output", "cache_read", "cache_creation", "cache_creation_5m", "cache_creation_1h")


class Reading(Struct, frozen=True, kw_only=True, gc=False):
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

    A count that the line with a stop reason lacks is the maximum, too: what ends a stream may tell its output only.

    Returns None if there are no readings.
    """
    if not readings:
        return None
    usages = [reading.usage for reading in readings]
    final = next((reading.usage for reading in reversed(readings) if reading.final), None)
    if final is not None and None not in (final.input, final.output, final.cache_read, final.cache_creation):
        return final
    greatest = _greatest_of_each(usages)
    if final is None:
        return greatest
    lacking = {name: getattr(greatest, name) for name in _COUNTS if getattr(final, name) is None}
    return replace(final, **lacking)


def _greatest_of_each(usages: Sequence[TokenUsage]) -> TokenUsage:
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
