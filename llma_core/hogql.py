"""The questions that are put to PostHog about the events, in HogQL, PostHog's own SQL.

Beside `events` and `view` this is the only module that spells PostHog's names: a query is a text. A `{name}` is a value
that PostHog puts in; nothing from a log is ever part of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["TILES", "Owner", "Tile", "doubled", "held"]

Owner = Literal["session", "trace"]
"""By whose ids events are asked for."""

_PROPERTIES: Mapping[Owner, str] = {"session": "properties.$ai_session_id", "trace": "properties.$ai_trace_id"}
_COLUMNS: Mapping[Owner, str] = {"session": "session_id", "trace": "trace_id"}
"""The same in the table of traces."""

_HELD = """
SELECT owner, groupArray(tuple(kind, trace, model, held,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd)) AS found
FROM (
    SELECT owner, kind, trace, model, groupArray(tuple(id, copies)) AS held,
        sum(input) AS input_tokens, sum(output) AS output_tokens,
        sum(cache_read) AS cache_read_tokens, sum(cache_write) AS cache_write_tokens,
        sum(cost) AS cost_usd
    FROM (
        SELECT toString(uuid) AS id, count() AS copies, any(event) AS kind,
            any(OWNER) AS owner,
            any(properties.$ai_trace_id) AS trace,
            any(properties.$ai_model) AS model,
            any(toInt(properties.$ai_input_tokens)) AS input,
            any(toInt(properties.$ai_output_tokens)) AS output,
            any(toInt(properties.$ai_cache_read_input_tokens)) AS cache_read,
            any(toInt(properties.$ai_cache_creation_input_tokens)) AS cache_write,
            any(toFloat(properties.$ai_total_cost_usd)) AS cost
        FROM events
        WHERE event IN {kinds} AND OWNER IN {owners}
            AND timestamp >= toDateTime({since}, 'UTC') AND timestamp < toDateTime({until}, 'UTC')
        GROUP BY id
    )
    GROUP BY owner, kind, trace, model
)
GROUP BY owner
ORDER BY owner
LIMIT 10000"""

_DOUBLED = """
SELECT owner, groupArray(tuple(id, copies)) AS found
FROM (
    SELECT OWNER AS owner, toString(uuid) AS id, count() AS copies
    FROM posthog.ai_events AS ai_events
    WHERE event IN {kinds} AND OWNER IN {owners}
        AND timestamp >= toDateTime({since}, 'UTC') AND timestamp < toDateTime({until}, 'UTC')
    GROUP BY owner, id
    HAVING copies > 1
)
GROUP BY owner
ORDER BY owner
LIMIT 10000"""


def held(by: Owner) -> str:
    """Return the question which events PostHog holds of some sessions or traces.

    Its values are `kinds` and `owners`, lists, and `since` and `until`, `2026-11-20 00:00:00` in UTC. A row of the
    answer is an owner with its groups: the name of events, a trace and a model, with the uuid of each such event and
    how often it is there, and the sums over the events, each counted once. So an answer has no more rows than owners
    were asked for, and stays below the most rows that any version of PostHog gives: 10,000, in later ones 50,000.

    Args:
        by: whose ids the owners are.
    """
    return _HELD.replace("OWNER", _PROPERTIES[by])


def doubled(by: Owner) -> str:
    """Return the question which events stand more than once in the table behind PostHog's pages of traces.

    It never drops one, and keeps them for 30 days. The values are those of `held`; a row of the answer is an owner with
    the uuid of each such event and how often it is there.

    Args:
        by: whose ids the owners are.
    """
    return _DOUBLED.replace("OWNER", _COLUMNS[by])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile of the dashboard.

    Attributes:
        key: names it, also in later versions.
        name: its title.
        description: what it shows, in a sentence.
        query: the question. `{filters}` is what the dashboard's reader chooses, such as a time.
        display: how PostHog draws it.
        x: the column along the axis of a chart; "" for a table.
        y: the columns of values of a chart.
        series: the column that splits a chart into series; "" for one series.
    """

    key: str
    name: str
    description: str
    query: str
    display: Literal["ActionsTable", "ActionsLineGraph", "ActionsStackedBar"] = "ActionsTable"
    x: str = ""
    y: Sequence[str] = ()
    series: str = ""


TILES = (
    Tile(
        key="cost-by-day-and-model",
        name="Cost by day and model",
        description="What the calls of each model cost, in US dollars as PostHog computes them.",
        query="""
SELECT toStartOfDay(at) AS day, model, round(sum(cost), 4) AS cost_usd
FROM (
    SELECT any(timestamp) AS at, any(properties.$ai_model) AS model,
        any(toFloat(properties.$ai_total_cost_usd)) AS cost
    FROM events
    WHERE event = '$ai_generation' AND properties.$ai_framework = 'claude-code' AND {filters}
        AND isNotNull(properties.$ai_total_cost_usd)
    GROUP BY uuid
)
GROUP BY day, model
ORDER BY day, model
LIMIT 10000""",
        display="ActionsStackedBar",
        x="day",
        y=("cost_usd",),
        series="model",
    ),
    Tile(
        key="cost-by-repository-branch-and-pull-request",
        name="Cost by repository, branch and pull request",
        description="Where the money goes. The pull request is the property `pull_request`, which CI can add.",
        query="""
SELECT repository, branch, pull_request, round(sum(cost), 4) AS cost_usd,
    uniq(session) AS sessions, countIf(isNotNull(output)) AS calls
FROM (
    SELECT any(properties.$ai_git_repo) AS repository, any(properties.$ai_git_branch) AS branch,
        any(properties.pull_request) AS pull_request, any(properties.$ai_session_id) AS session,
        any(toFloat(properties.$ai_total_cost_usd)) AS cost, any(properties.$ai_output_tokens) AS output
    FROM events
    WHERE event = '$ai_generation' AND properties.$ai_framework = 'claude-code' AND {filters}
    GROUP BY uuid
)
GROUP BY repository, branch, pull_request
ORDER BY cost_usd DESC, repository, branch, pull_request
LIMIT 100""",
    ),
    Tile(
        key="cache-hit-rate",
        name="Cache hit rate",
        description="The share of the input that the cache held, in percent of all input tokens.",
        query="""
SELECT toStartOfDay(at) AS day,
    round(100 * sum(cached) / nullIf(sum(cached) + sum(fresh), 0), 1) AS hit_rate
FROM (
    SELECT any(timestamp) AS at, any(ifNull(toInt(properties.$ai_cache_read_input_tokens), 0)) AS cached,
        any(ifNull(toInt(properties.$ai_input_tokens), 0)
            + ifNull(toInt(properties.$ai_cache_creation_input_tokens), 0)) AS fresh
    FROM events
    WHERE event = '$ai_generation' AND properties.$ai_framework = 'claude-code' AND {filters}
    GROUP BY uuid
)
GROUP BY day
ORDER BY day
LIMIT 10000""",
        display="ActionsLineGraph",
        x="day",
        y=("hit_rate",),
    ),
    Tile(
        key="tool-failures",
        name="Tool failures",
        description="How often each tool was called, and how often it failed, was denied or was interrupted.",
        query="""
SELECT properties.$ai_span_name AS tool, uniq(uuid) AS calls,
    uniqIf(uuid, properties.claude_code_tool_status = 'error') AS failed,
    round(100 * failed / calls, 1) AS failed_percent,
    uniqIf(uuid, properties.claude_code_tool_status = 'denied') AS denied,
    uniqIf(uuid, properties.claude_code_tool_status IN ('interrupted', 'no_result')) AS interrupted
FROM events
WHERE event = '$ai_span' AND properties.$ai_span_type IN ('tool', 'agent')
    AND properties.$ai_framework = 'claude-code' AND {filters}
GROUP BY tool
ORDER BY failed DESC, calls DESC, tool
LIMIT 100""",
    ),
    Tile(
        key="slowest-sessions",
        name="Slowest sessions",
        description="The sessions in which work took longest, without the time they waited for a person.",
        query="""
SELECT session, any(title) AS name, any(folder) AS project, round(sum(seconds)) AS working_seconds
FROM (
    SELECT properties.$ai_trace_id AS trace, any(properties.$ai_session_id) AS session,
        any(properties.$ai_trace_name) AS title, any(properties.$ai_project_name) AS folder,
        max(toFloat(properties.$ai_latency)) AS seconds
    FROM events
    WHERE event = '$ai_trace' AND properties.$ai_framework = 'claude-code' AND {filters}
    GROUP BY trace
)
GROUP BY session
HAVING working_seconds > 0
ORDER BY working_seconds DESC, session
LIMIT 50""",
    ),
    Tile(
        key="errors-by-type",
        name="Errors by type",
        description="Failed attempts by the provider's error type, and failed tools by name.",
        query="""
SELECT if(event = '$ai_span', 'tool', 'model') AS what,
    if(event = '$ai_span', properties.$ai_span_name, ifNull(properties.$ai_error_type, 'unknown')) AS error,
    uniq(uuid) AS errors, uniq(properties.$ai_session_id) AS sessions, max(timestamp) AS last_seen
FROM events
WHERE event IN ('$ai_generation', '$ai_span') AND properties.$ai_is_error = 'true'
    AND properties.$ai_framework = 'claude-code' AND {filters}
GROUP BY what, error
ORDER BY errors DESC, what, error
LIMIT 100""",
    ),
)
"""The tiles of the dashboard, in their order. An event that was sent twice is in PostHog's table twice until that
merges, so sums are over uuids."""
