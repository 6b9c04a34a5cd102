"""Answers over the rows of the local file: what was used and what it cost, by day, session, model, tool and more.

Every question reads only the table `calls`, so it stays quick however much content is kept.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from daemon.delivering.local import schema
from daemon.delivering.local.events import UnreadableEventsError
from daemon.delivering.local.schema import IS_ATTEMPT, IS_MODEL, IS_TOOL, TELLS_COST
from daemon.state.connection import open_to_read
from daemon.usage.prices import Dollars, Tokens, rates, thresholds

__all__ = ["CENT", "By", "Group", "Index", "Range", "Slice", "ToolGroup", "midnight", "summed"]

By = Literal["day", "session", "project", "branch", "model", "agent"]
"""What generations are grouped by."""

_COLUMNS: dict[By, str] = {
    # With the sign, SQLite does not take the index of sessions for their order, which would be to read every row.
    "session": "+session_id",
    "project": "project_id",
    "branch": "branch_id",
    "model": "model_id",
    "agent": "agent_id",
}
_WORDS = 1 << 32
"""More than the largest number of a word; the smallest is 1."""
_DAY = 86_400_000
"""Milliseconds of a day, unless clocks change in it."""
_NUMBERS = "(SELECT words.id FROM words JOIN json_each(?) ON words.word = json_each.value)"
_SENT = "ifnull(input, 0) + ifnull(cache_read, 0) + ifnull(cache_write_5m, 0) + ifnull(cache_write_1h, 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which calls a question is about.

    Attributes:
        since: their end, in seconds since the epoch; None: any.
        until: before this time; None: any.
        sessions: ids of sessions; None: all.
        projects: names of projects, as the events have them; None: all. With *sessions*, calls of either.
    """

    since: float | None = None
    until: float | None = None
    sessions: frozenset[str] | None = None
    projects: frozenset[str] | None = None


CENT = 0.01
"""The difference of dollars from which two sums are not the same."""


class Group(msgspec.Struct, kw_only=True):
    """What the calls of one day, session, project, branch, model or agent used.

    Attributes:
        key: the day (`2026-11-30`), id or name; None where the events do not say it.
        tokens: sums over its generations; `calls` counts them.
        dollars: their cost.
        client_dollars: for a session, US dollars that the client itself counts, with what a fork has inherited; None if
            it says none.
        attempts: failed attempts at a generation.
        first: the end of its first call, in milliseconds since the epoch.
        last: the end of its last call.
        project: for a session, the project it was last in.
        models: names of its models, the one with the most tokens first.
    """

    key: str | None
    tokens: Tokens = Tokens()
    dollars: Dollars = Dollars()
    client_dollars: float | None = None
    attempts: int = 0
    first: int = 0
    last: int = 0
    project: str | None = None
    models: list[str] = []

    @property
    def disputed(self) -> float | None:
        """The US dollars that the client itself counts, if that is another sum; None if it says none, or the same."""
        counted = self.client_dollars
        return counted if counted is not None and abs(counted - self.dollars.known) >= CENT else None


class Slice(msgspec.Struct, kw_only=True):
    """What the calls of one day used that share something else too, such as the model.

    Attributes:
        day: the day, `2026-11-30`; None if it is unknown.
        key: the id or name of what they share; None where the events do not say it.
        tokens: sums over its generations.
        dollars: their cost.
    """

    day: str | None
    key: str | None
    tokens: Tokens = Tokens()
    dollars: Dollars = Dollars()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolGroup:
    """How the calls of one tool went.

    Attributes:
        name: the tool.
        calls: number of calls.
        failed: calls that ended with an error.
        denied: calls that were denied, by a person or a rule.
        interrupted: calls that were interrupted or never answered.
        seconds_p50: the median of their durations; None if no duration is known.
        seconds_p95: the 95th percentile.
        seconds_total: all durations together.
    """

    name: str
    calls: int
    failed: int
    denied: int
    interrupted: int
    seconds_p50: float | None
    seconds_p95: float | None
    seconds_total: float


class Index:
    """The rows of the local file, to be asked. Reads even while a sink writes, and never writes.

    Args:
        path: the file.
        zone: the time zone whose days count; None: the machine's.

    Raises:
        UnreadableEventsError: the file is missing, not readable, damaged, or of another version.
    """

    def __init__(self, path: Path, zone: tzinfo | None = None) -> None:
        self._zone = zone
        try:
            self._connection = open_to_read(path, timeout=2)
            try:
                schema.check_version(self._connection)
            except sqlite3.Error:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise UnreadableEventsError(str(error)) from error
        self._words: dict[int, str] = {}

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    # ------------------------------------------------------------------ what generations used

    def usage(self, by: By, wanted: Range) -> list[Group]:
        """Return what generations used, by *by*, the largest cost first; days in their order.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        days = self._days(wanted) if by == "day" else []
        key = self._day_number(days) if by == "day" else _COLUMNS[by]
        groups: dict[Any, Group] = {}
        models: dict[Any, dict[str, int]] = {}
        found = list(self._generations(key, wanted))
        if by != "day":
            self._learn({row.key for row in found})
        for row in found:
            group = groups.get(row.key)
            if group is None:
                name = self._key(by, row.key, days)
                group = groups[row.key] = Group(key=name, tokens=row.tokens, dollars=row.dollars)
            else:
                group.tokens += row.tokens
                group.dollars += row.dollars
            group.first = min(group.first or row.first, row.first)
            group.last = max(group.last, row.last)
            used = models.setdefault(row.key, {})
            used[row.model] = used.get(row.model, 0) + row.tokens.total
        where, values = self._where(wanted)
        for number, attempts, first, last in self.query(
            f"SELECT {key} AS k, count(*), min(at), max(at) FROM calls WHERE {IS_ATTEMPT}{where} GROUP BY k", values
        ):
            group = groups.setdefault(number, Group(key=self._key(by, number, days)))
            group.attempts = attempts
            group.first = min(group.first or first, first)
            group.last = max(group.last, last)
        for number, used in models.items():
            groups[number].models = sorted((name for name in used if name), key=lambda name: -used[name])
        if by == "session":
            self._add_session_facts(groups, wanted)
        if by == "day":
            return sorted(groups.values(), key=lambda group: group.key or "")
        return sorted(groups.values(), key=lambda group: (-group.dollars.known, -group.tokens.total, group.key or ""))

    def stack(self, by: By, wanted: Range) -> list[Slice]:
        """Return what generations used by day and, within it, by *by*, which is another grouping than `day`.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        days = self._days(wanted)
        key = f"({self._day_number(days)}) * {_WORDS} + ifnull({_COLUMNS[by]}, 0)"
        slices: dict[int, Slice] = {}
        for row in self._generations(key, wanted):
            day, number = divmod(row.key, _WORDS)
            found = slices.get(row.key)
            if found is None:
                found = slices[row.key] = Slice(
                    day=self._key("day", day, days), key=self.word(number) if number else None
                )
            found.tokens += row.tokens
            found.dollars += row.dollars
        return sorted(slices.values(), key=lambda each: (each.day or "", each.key or ""))

    def total(self, wanted: Range) -> Group:
        """Return what all generations used together."""
        whole = Group(key=None)
        models: dict[str, int] = {}
        for row in self._generations("0", wanted):
            whole.tokens += row.tokens
            whole.dollars += row.dollars
            whole.first = min(whole.first or row.first, row.first)
            whole.last = max(whole.last, row.last)
            models[row.model] = models.get(row.model, 0) + row.tokens.total
        whole.models = sorted((name for name in models if name), key=lambda name: -models[name])
        where, values = self._where(wanted)
        [[whole.attempts]] = self.query(f"SELECT count(*) FROM calls WHERE {IS_ATTEMPT}{where}", values)
        return whole

    def tools(self, wanted: Range) -> list[ToolGroup]:
        """Return how the calls of each tool went, the most called first.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        where, values = self._where(wanted)
        found: dict[int | None, list[tuple[str | None, float | None]]] = {}
        for name, status, seconds in self.query(
            f"SELECT name_id, status_id, seconds FROM calls WHERE {IS_TOOL}{where}", values
        ):
            found.setdefault(name, []).append((self.word(status), seconds))
        groups = [_tool(self.word(name) or "unknown", calls) for name, calls in found.items()]
        return sorted(groups, key=lambda group: (-group.calls, group.name))

    def tool_calls(self, wanted: Range) -> tuple[int, int]:
        """Return the number of tool calls, and how many of them failed.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        where, values = self._where(wanted)
        [(calls, failed)] = self.query(
            "SELECT count(*), count(*) FILTER (WHERE status_id = (SELECT id FROM words WHERE word = 'error')) "
            f"FROM calls WHERE {IS_TOOL}{where}",
            values,
        )
        return calls, failed

    def failures(self, wanted: Range) -> dict[str, int]:
        """Return how many tool calls failed in each session that has any, by the session's id.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        where, values = self._where(wanted)
        rows = self.query(
            f"SELECT session_id, count(*) FROM calls WHERE {IS_TOOL} "
            f"AND status_id = (SELECT id FROM words WHERE word = 'error'){where} GROUP BY session_id",
            values,
        )
        return {session: number for number_id, number in rows if (session := self.word(number_id)) is not None}

    def projects(self) -> frozenset[str]:
        """Return the names of all projects.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        rows = self.query("SELECT word FROM words WHERE id IN (SELECT project_id FROM calls)")
        return frozenset(name for (name,) in rows)

    def used_projects(self, wanted: Range) -> list[str]:
        """Return the names of the projects that `usage` tells of, in their order.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        where, values = self._where(wanted)
        rows = self.query(
            f"""
            SELECT word FROM words WHERE id IN (
                SELECT project_id FROM calls WHERE {IS_MODEL}{where}
                UNION SELECT project_id FROM calls WHERE {IS_ATTEMPT}{where}
            ) ORDER BY word
            """,
            (*values, *values),
        )
        return [name for (name,) in rows]

    def newest(self, wanted: Range, most: int) -> tuple[list[str | None], int]:
        """Return the ids of the sessions that `usage` tells of, those with the last call first, and how many they are.

        Args:
            wanted: which calls.
            most: how many sessions to return at most; the number counts all.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        where, values = self._where(wanted)
        rows = self.query(
            f"""
            SELECT word, max(at) AS last, count(*) OVER () FROM (
                SELECT session_id, at FROM calls WHERE {IS_MODEL}{where}
                UNION ALL SELECT session_id, at FROM calls WHERE {IS_ATTEMPT}{where}
            ) LEFT JOIN words ON words.id = session_id GROUP BY session_id ORDER BY last DESC LIMIT ?
            """,
            (*values, *values, most),
        )
        return [session for session, _, _ in rows], rows[0][2] if rows else 0

    def sessions_of(self, project: str) -> frozenset[str]:
        """Return the ids of sessions that have a call in the project of this name.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        rows = self.query(
            "SELECT word FROM words WHERE id IN "
            "(SELECT session_id FROM calls WHERE project_id = (SELECT id FROM words WHERE word = ?))",
            (project,),
        )
        return frozenset(session for (session,) in rows)

    # ------------------------------------------------------------------ details

    def _generations(self, key: str, wanted: Range) -> Iterable[_Row]:
        """Yield sums over generations that have the same key and the same price."""
        where, values = self._where(wanted)
        limits = self._limits(where, values)
        # A price holds for one day, in the time of the provider.
        rows = self.query(
            f"""
            SELECT {key} AS k, model_id, provider_id, tier_id, prices_id, at / {_DAY} AS day, {limits} AS size,
                count(*), sum(input), sum(output), sum(cache_read), sum(cache_write_5m), sum(cache_write_1h),
                sum(web_searches), min(at), max(at)
            FROM calls WHERE {IS_MODEL}{where}
            GROUP BY k, model_id, provider_id, tier_id, prices_id, day, size
            """,
            values,
        )
        for number, model_id, provider, tier, prices, day, sent, calls, *sums, searches, first, last in rows:
            sent_new, written, read, write_5m, write_1h = sums
            tokens = Tokens(
                calls=calls,
                input=sent_new or 0,
                output=written or 0,
                cache_read=read or 0,
                cache_write_5m=write_5m or 0,
                cache_write_1h=write_1h or 0,
                web_searches=searches or 0,
            )
            model = self.word(model_id) or ""
            price = rates(model, self.word(provider), self.word(tier), _date(day), sent, self.word(prices))
            dollars = (
                Dollars(known=price.cost(tokens)) if price is not None else Dollars(unpriced={model: tokens.total})
            )
            yield _Row(key=number, model=model, tokens=tokens, dollars=dollars, first=first, last=last)

    def _limits(self, where: str, values: Sequence[object]) -> str:
        """Return SQL that is the smallest input, in tokens, of the price range that a call falls into, plus one."""
        parts = []
        for model_id, provider in self.query(
            f"SELECT DISTINCT model_id, provider_id FROM calls WHERE {IS_MODEL}{where}", values
        ):
            model = self.word(model_id)
            parts += [
                f"WHEN model_id = {model_id:d} AND {_SENT} > {start:d} THEN {start + 1:d}"
                for start in reversed(thresholds(model, self.word(provider)) if model else ())
            ]
        return f"CASE {' '.join(parts)} ELSE 0 END" if parts else "0"

    def _add_session_facts(self, groups: dict[Any, Group], wanted: Range) -> None:
        """Add what the client itself counts, and where each session was last."""
        where, values = self._where(wanted)
        for session, dollars in self.query(
            f"SELECT session_id, max(client_cost) FROM calls WHERE {TELLS_COST}{where} GROUP BY session_id",
            values,
        ):
            if session in groups:
                groups[session].client_dollars = dollars
        for session, project, _ in self.query(
            f"SELECT session_id, project_id, max(at) FROM calls WHERE project_id IS NOT NULL{where} "
            "GROUP BY session_id",
            values,
        ):
            if session in groups:
                groups[session].project = self.word(project)

    def _where(self, wanted: Range) -> tuple[str, list[object]]:
        parts: list[str] = []
        values: list[object] = []
        if wanted.since is not None:
            parts.append("at >= ?")
            values.append(int(wanted.since * 1000))
        if wanted.until is not None:
            parts.append("at < ?")
            values.append(int(wanted.until * 1000))
        either = []
        for column, words in (("session_id", wanted.sessions), ("project_id", wanted.projects)):
            if words is not None:
                either.append(f"{column} IN {_NUMBERS}")
                values.append(msgspec.json.encode(sorted(words)).decode())
        if either:
            parts.append(f"({' OR '.join(either)})")
        return "".join(f" AND {part}" for part in parts), values

    def _days(self, wanted: Range) -> list[int]:
        """Return the beginnings of all days of the zone that the calls span, in milliseconds since the epoch."""
        where, values = self._where(wanted)
        ends = [
            ends
            for kind in (IS_MODEL, IS_ATTEMPT)
            for ends in self.query(f"SELECT min(at), max(at) FROM calls WHERE {kind} AND at > 0{where}", values)
            if ends[0] is not None
        ]
        if not ends:
            return []
        first, last = min(begin for begin, _ in ends), max(end for _, end in ends)
        begin = self._local(first).replace(hour=0, minute=0, second=0, microsecond=0)
        days = []
        while begin.timestamp() * 1000 <= last:
            days.append(round(begin.timestamp() * 1000))
            # Noon of the next day: a day has 23 to 25 hours where clocks change.
            noon = self._local(round(begin.timestamp() * 1000) + 36 * 3_600_000)
            begin = noon.replace(hour=0, minute=0, second=0, microsecond=0)
        return days

    def _day_number(self, days: Sequence[int]) -> str:
        """Return SQL for the number of the day of a call; days of 24 hours are counted, others compared."""
        if not days:
            return "-1"
        regular = all(after - before == _DAY for before, after in pairwise(days))
        if regular:
            return f"(at - {days[0]:d}) / {_DAY}"
        parts = " ".join(f"WHEN at >= {start:d} THEN {number:d}" for number, start in reversed(list(enumerate(days))))
        return f"CASE {parts} ELSE -1 END"

    def _local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at / 1000, UTC).astimezone(self._zone)

    def _key(self, by: By, number: Any, days: Sequence[int]) -> str | None:
        if by != "day":
            return self.word(number)
        return self._local(days[number]).date().isoformat() if 0 <= number < len(days) else None

    def word(self, number: int | None) -> str | None:
        """Return the word with a number; None for None."""
        if number is None:
            return None
        known = self._words.get(number)
        if known is None:
            [[known]] = self.query("SELECT word FROM words WHERE id = ?", (number,))
            self._words[number] = known
        return known

    def _learn(self, numbers: Iterable[int | None]) -> None:
        """Look up many words at once."""
        missing = [number for number in numbers if number is not None and number not in self._words]
        if missing:
            listed = msgspec.json.encode(missing).decode()
            self._words.update(
                self.query("SELECT id, word FROM words WHERE id IN (SELECT value FROM json_each(?))", (listed,))
            )

    def query(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a statement.

        Raises:
            UnreadableEventsError: the file is damaged.
        """
        try:
            with contextlib.closing(self._connection.execute(statement, tuple(values))) as found:
                return found.fetchall()
        except sqlite3.Error as error:
            raise UnreadableEventsError(str(error)) from error


def summed(groups: Iterable[Group]) -> Group:
    """Return the sums over groups, without a key, times and names."""
    whole = Group(key=None)
    for group in groups:
        whole.tokens += group.tokens
        whole.dollars += group.dollars
        whole.attempts += group.attempts
    return whole


def midnight(days_ago: int) -> float:
    """Return when the day that many days ago began, in local time, in seconds since the epoch."""
    day = datetime.now().astimezone().date() - timedelta(days=days_ago)
    return datetime(day.year, day.month, day.day).astimezone().timestamp()


@lru_cache(maxsize=1024)
def _date(day: int) -> str:
    """Return the date of a day, `2026-11-30`, by its number since the epoch."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    key: Any
    model: str
    tokens: Tokens
    dollars: Dollars
    first: int
    last: int


def _tool(name: str, calls: Sequence[tuple[str | None, float | None]]) -> ToolGroup:
    seconds = sorted(each for _, each in calls if each is not None)
    statuses = [status for status, _ in calls]
    return ToolGroup(
        name=name,
        calls=len(calls),
        failed=statuses.count("error"),
        denied=statuses.count("denied"),
        interrupted=statuses.count("interrupted") + statuses.count("no_result"),
        seconds_p50=_quantile(seconds, 0.5),
        seconds_p95=_quantile(seconds, 0.95),
        seconds_total=sum(seconds),
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that *share* of the values do not exceed; None without values."""
    if not ordered:
        return None
    return ordered[max(0, min(len(ordered) - 1, -(-len(ordered) * round(share * 100) // 100) - 1))]
