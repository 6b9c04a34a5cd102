"""The questions that are put to PostHog about the events, in HogQL, PostHog's own SQL.

Beside `events` and `view` this is the only module that spells the receiver's names. A `{name}` is a value that PostHog
puts in; nothing from a log is ever part of a text.
"""

from __future__ import annotations

__all__ = ["DOUBLED", "KINDS", "METRIC", "ROWS", "TRACE", "held"]

TRACE = "$ai_trace"
METRIC = "$ai_metric"
KINDS = ("$ai_generation", "$ai_span", TRACE, METRIC)
"""The names of the events that this project sends."""

ROWS = 50_000
"""The most rows that PostHog gives for one query, and the limit in the texts."""

_HELD = """
SELECT session, kind, trace, model,
    groupArray(tuple(id, copies)) AS held,
    sum(input) AS input_tokens, sum(output) AS output_tokens,
    sum(cache_read) AS cache_read_tokens, sum(cache_write) AS cache_write_tokens,
    sum(cost) AS cost_usd
FROM (
    SELECT toString(uuid) AS id, count() AS copies, any(event) AS kind,
        any(properties.$ai_session_id) AS session,
        any(properties.$ai_trace_id) AS trace,
        any(properties.$ai_model) AS model,
        any(toInt(properties.$ai_input_tokens)) AS input,
        any(toInt(properties.$ai_output_tokens)) AS output,
        any(toInt(properties.$ai_cache_read_input_tokens)) AS cache_read,
        any(toInt(properties.$ai_cache_creation_input_tokens)) AS cache_write,
        any(toFloat(properties.$ai_total_cost_usd)) AS cost
    FROM events
    WHERE event IN {kinds} AND properties.$ai_session_id IN {sessions}
        AND timestamp >= toDateTime({since}, 'UTC') AND timestamp < toDateTime({until}, 'UTC')
    GROUP BY id
)
GROUP BY session, kind, trace, model
ORDER BY session, trace, kind, model
LIMIT 50000"""


def held(offset: int = 0) -> str:
    """Return the question which events PostHog holds of some sessions.

    Its values are `kinds` and `sessions`, lists, and `since` and `until`, `2026-11-20 00:00:00` in UTC. A row of the
    answer is a session, the name of events, a trace and a model, with the uuid of each such event and how often it is
    there, and the sums over the events, each counted once.

    Args:
        offset: how many rows to leave out, because they were given before.
    """
    return f"{_HELD} OFFSET {offset:d}" if offset else _HELD


DOUBLED = """
SELECT session_id AS session, toString(uuid) AS id, count() AS copies
FROM posthog.ai_events AS ai_events
WHERE event IN {kinds} AND session_id IN {sessions}
    AND timestamp >= toDateTime({since}, 'UTC') AND timestamp < toDateTime({until}, 'UTC')
GROUP BY session, id
HAVING copies > 1
ORDER BY session, id
LIMIT 50000"""
"""The question which events stand more than once in the table behind PostHog's pages of traces. It never drops one,
and keeps them for 30 days. Its values are those of `held`."""
