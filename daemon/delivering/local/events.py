"""Reads the bodies of events that the local sink has kept."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from daemon.delivering.local.call import ATTEMPT, GENERATION, TRACE
from daemon.delivering.local.schema import packed
from daemon.state.connection import open_to_read
from llma_core.trace_tree import TraceTree, build
from llma_core.view import EventView, asked, prompt_of, read, words

__all__ = ["LocalEvents", "LocalTrace", "UnreadableEventsError"]

# Seconds to wait while another process locks the file.
_BUSY_TIMEOUT = 0.5
# Whatever arrived since the oldest body that is kept has one, too.
_KEPT = "calls.id >= (SELECT min(received) FROM events)"
_OF_TRACES = "trace_id IN (SELECT trace_id FROM calls WHERE {})"
_WORDS = "SELECT id FROM words WHERE word IN (SELECT value FROM json_each(?))"


class UnreadableEventsError(Exception):
    """The file of local events cannot be read.

    Attributes:
        reason: the error message of SQLite.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTrace:
    """A trace in the local sink.

    Attributes:
        trace_id: the trace's id.
        session_id: the session it belongs to, or None if no event names one.
        last: timestamp of its newest event, RFC 3339 in UTC.
        events: number of its events.
    """

    trace_id: str
    session_id: str | None
    last: str
    events: int


class LocalEvents:
    """Reads the events that a LocalSink wrote, even while it is writing. Never writes.

    Args:
        path: the sink's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def traces(
        self,
        limit: int | None = None,
        *,
        prefix: str = "",
        since: float | None = None,
        sessions: Collection[str] | None = None,
        projects: Collection[str] | None = None,
        failed: bool = False,
        among: Sequence[str] | None = None,
    ) -> list[LocalTrace]:
        """List traces. The trace with the newest event comes first.

        Args:
            limit: the maximum number of traces; None means all.
            prefix: list only traces whose id, or whose session's id, starts with this.
            since: only with an event that ended since then, in seconds since the epoch.
            sessions: only of the sessions with these ids; None means any.
            projects: only with a call in a project of these names. With *sessions*, traces of either.
            failed: only with a failed attempt or call, or a failed end.
            among: only of these ids; None means any.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        where: list[str] = []
        values: list[object] = []
        if prefix:
            begun = "(SELECT id FROM words WHERE substr(word, 1, ?) = ?)"
            where.append(f"(trace_id IN {begun} OR session_id IN {begun})")
            values += [len(prefix), prefix] * 2
        if among is not None:
            where.append(f"trace_id IN ({_WORDS})")
            values.append(msgspec.json.encode(list(among)).decode())
        either = []
        if sessions is not None:
            either.append(f"session_id IN ({_WORDS})")
            values.append(msgspec.json.encode(sorted(sessions)).decode())
        if projects is not None:
            either.append(_OF_TRACES.format(f"project_id IN ({_WORDS})"))
            values.append(msgspec.json.encode(sorted(projects)).decode())
        if either:
            where.append(f"({' OR '.join(either)})")
        if failed:
            ended = "SELECT id FROM words WHERE word IN ('error', 'failed')"
            where.append(_OF_TRACES.format(f"kind = {ATTEMPT} OR status_id IN ({ended})"))
        if since is not None:
            # Checked for each trace, by its newest event.
            values.append(math.ceil(since * 1000))
        rows = self._query(
            f"""
            SELECT traces.word, sessions.word, last, number FROM (
                SELECT trace_id, max(session_id) AS session_id, max(at) AS last, count(*) AS number, max(id) AS newest
                FROM calls WHERE {_KEPT} AND trace_id IS NOT NULL{"".join(f" AND {each}" for each in where)}
                GROUP BY trace_id {"HAVING last >= ?" if since is not None else ""}
                ORDER BY last DESC, newest DESC LIMIT ?
            ) JOIN words AS traces ON traces.id = trace_id LEFT JOIN words AS sessions ON sessions.id = session_id
            ORDER BY last DESC, newest DESC
            """,  # noqa: S608 - only the conditions above are put in, without values
            (*values, -1 if limit is None else limit),
        )
        return [
            LocalTrace(trace_id=trace, session_id=session, last=_time(last), events=number)
            for trace, session, last, number in rows
        ]

    def search(self, words: str) -> list[str]:
        """Return the ids of traces whose names, prompts or answers hold all *words*, the newest first.

        The last word may be the beginning of one. Finds what is indexed; `TextIndex` completes the index.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        return self._found(words, "trace_id")

    def _found(self, words: str, column: str) -> list[str]:
        # In quotes, nothing in the words is an operator of the query language.
        quoted = ['"{}"'.format(word.replace('"', '""')) for word in words.split()]
        if not quoted:
            return []
        rows = self._query(
            f"""
            SELECT word, max(received) AS newest FROM text_index
            JOIN texts ON texts.id = text_index.rowid JOIN words ON words.id = texts.{column}
            WHERE text_index MATCH ? GROUP BY word ORDER BY newest DESC
            """,  # noqa: S608 - only the name of a column is put in
            (" ".join(quoted) + "*",),
        )
        return [found for found, _ in rows]

    def sessions_with(self, words: str) -> frozenset[str]:
        """Return the ids of sessions whose names, prompts or answers hold all *words*; see `search`.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        return frozenset(self._found(words, "session_id"))

    def bodies(self, session: str, uuids: Sequence[str]) -> dict[str, bytes]:
        """Return the bodies of events of a session, by their uuids, as far as they are kept.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        wanted = []
        for uuid in uuids:
            # Whoever asks may have any text.
            with contextlib.suppress(ValueError):
                wanted.append(packed(uuid))
        rows = self._query(
            f"""
            SELECT events.uuid, body FROM calls JOIN events ON received = id
            WHERE coalesce(calls.session_id, 0) = (SELECT id FROM words WHERE word = ?)
            AND calls.uuid IN ({", ".join("?" * len(wanted))})
            """,  # noqa: S608 - only question marks are put in
            (session, *wanted),
        )
        return dict(rows)

    def last(self, session: str, number: int) -> list[bytes]:
        """Return the bodies of the newest events of a session by their timestamps, the newest first; no traces.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        rows = self._query(
            f"""
            SELECT body FROM calls JOIN events ON received = calls.id
            WHERE calls.session_id = (SELECT id FROM words WHERE word = ?) AND {_KEPT} AND kind <> {TRACE}
            ORDER BY at DESC, received DESC LIMIT ?
            """,  # noqa: S608 - only a condition from here is put in
            (session, number),
        )
        return [body for (body,) in rows]

    def names(self, sessions: Sequence[str]) -> dict[str, str]:
        """Return the names of sessions, by their ids, as their newest event that is kept has it.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        rows = self._query(
            f"""
            SELECT events.session_id, body FROM events WHERE received IN (
                SELECT max(id) FROM calls
                WHERE session_id IN ({_WORDS}) AND {_KEPT} AND kind IN ({TRACE}, {GENERATION}, {ATTEMPT})
                GROUP BY session_id
            )
            """,  # noqa: S608 - only conditions from here are put in
            (msgspec.json.encode(list(sessions)).decode(),),
        )
        return {session: name for session, body in rows if (name := read(body).trace_name)}

    def events(self, trace_id: str) -> list[EventView]:
        """Return the events of one trace in the order of their arrival.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        return [read(body) for body in self._trace(trace_id)]

    def tree(self, trace_id: str) -> TraceTree:
        """Return one trace as a tree, with its prompt and the words that describe its calls.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        bodies = self._trace(trace_id)
        events = [read(body) for body in bodies]
        described = {
            event.uuid: words(body)
            for event, body in zip(events, bodies, strict=True)
            if event.kind in ("span", "trace")
        }
        # A trace that goes on has no event of its own, and its calls carry the prompt.
        prompt = next((said for body in bodies if (said := prompt_of(body))), "")
        begun = {
            event.uuid: asked(body) for event, body in zip(events, bodies, strict=True) if event.kind == "generation"
        }
        return build(trace_id, events, words=described, prompt=prompt, asked=begun)

    def _trace(self, trace_id: str) -> list[bytes]:
        rows = self._query(
            f"""
            SELECT body FROM calls JOIN events ON received = calls.id
            WHERE calls.trace_id = (SELECT id FROM words WHERE word = ?) AND {_KEPT} ORDER BY received
            """,  # noqa: S608 - only a condition from here is put in
            (trace_id,),
        )
        return [body for (body,) in rows]

    def _query(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        try:
            with contextlib.closing(open_to_read(self._path, timeout=_BUSY_TIMEOUT)) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise UnreadableEventsError(str(error)) from error


def _time(at: int) -> str:
    """Return a time in milliseconds since the epoch as RFC 3339, in UTC; "" if it is unknown."""
    if not at:
        return ""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
