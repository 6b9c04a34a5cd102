"""From log files to spans and events, without a daemon: the result of reading every file to its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

from llma_core import events
from llma_core.claude_code import layout, records
from llma_core.claude_code.agent import CLAUDE_CODE
from llma_core.claude_code.session import SessionAccumulator
from llma_core.hosted_lines import HostedLines
from llma_core.lines import Line, LineSplitter
from llma_core.properties import Attribution
from llma_core.recovery import is_whole, read_records
from llma_core.spans import Generation, LineRange, OpeningTrace, Prompt, SessionFacts, Span, Trace

__all__ = ["Feed", "body", "built", "feeds", "identity", "properties", "spans"]

Takes = Callable[[Any, bytes], bool]
"""Whether a record is fed, by itself and its line."""
_LAST = "~"
"""Behind every time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One input of an accumulator: a line's record, or the contents of a subagent's meta file."""

    file: str
    agent: str | None
    line: Line | None = None
    meta: records.AgentMeta | None = None
    requests: bool = False

    def to(self, accumulator: SessionAccumulator, *, now: float = 0.0, takes: Takes | None = None) -> list[Span]:
        """Feed it. What of a line is not a record is skipped, as by a reader, and what *takes* refuses."""
        if self.meta is not None:
            assert self.agent is not None
            return accumulator.link(self.agent, self.meta, now=now)
        line = self.line
        assert line is not None
        if line.data is None:
            return []
        place = LineRange(file=self.file, start=line.start, end=line.end)
        found: list[Span] = []
        for record in read_records(line.data, partial(records.decode, requests=self.requests)).records:
            if takes is None or takes(record, line.data):
                found += accumulator.feed(record, place, agent=self.agent, now=now)
        return found


def feeds(file: str, data: bytes, *, chunks: Sequence[int] | None = None, whole_inputs: bool = False) -> list[Feed]:
    """Return the inputs from one file, read in pieces whose sizes repeat *chunks*; without it, in one piece.

    Nobody writes to it any more: a last line that lacks only its line end is whole.
    """
    path = layout.classify(file)
    assert path is not None, f"{file} is no log"
    if path.kind == "meta":
        meta = records.decode_meta(data)
        return [] if meta is None else [Feed(file=file, agent=path.agent, meta=meta)]
    splitter = LineSplitter()
    lines = [line for chunk in _cut(data, chunks) for line in splitter.push(chunk)]
    if is_whole(splitter.rest):
        lines.append(splitter.finish())
    return [Feed(file=file, agent=path.agent, line=line, requests=whole_inputs) for line in lines]


def spans(
    files: Mapping[str, bytes],
    *,
    chunks: Sequence[int] | None = None,
    order: Sequence[str] | None = None,
    whole_inputs: bool = False,
) -> list[Span]:
    """Read *files* to their ends, end their sessions, and return every span that came out.

    Sessions are read one after the other, the one that started first before its forks, and what an earlier one wrote
    is a copy in a later one.

    Args:
        files: bytes by path relative to the `projects` folder.
        chunks: sizes in which files are read, see `feeds`.
        order: in which order the files of a session are read: each name stands for the file's next line. What it does
            not name comes behind, file by file, meta files first.
        whole_inputs: see SessionAccumulator.
    """
    owners: dict[str, str] = {}
    found: list[Span] = []
    mains = {path.session: name for name in files if (path := layout.classify(name)) and path.kind == "session"}
    for session, names in _sessions(files).items():

        def copied(name: str, _checksum: bytes | None, _at: int | None, session: str = session) -> bool:
            return owners.setdefault(name, session) != session

        accumulator = SessionAccumulator(session, copied=copied, whole_inputs=whole_inputs)
        left = {name: iter(feeds(name, files[name], chunks=chunks, whole_inputs=whole_inputs)) for name in names}
        takes = {mains.get(session): _of_host(session, mains)}
        for name in order or ():
            if name in left and (feed := next(left[name], None)) is not None:
                found += feed.to(accumulator, takes=takes.get(name))
        for name in sorted(left, key=lambda name: not name.endswith(".meta.json")):
            for feed in left[name]:
                found += feed.to(accumulator, takes=takes.get(name))
        for host, name in mains.items():
            if host is not None and host != session and session in mains:
                of_guest = _of_guest(session, host)
                for feed in feeds(name, files[name], whole_inputs=whole_inputs):
                    found += feed.to(accumulator, takes=of_guest)
        found += [span for span in accumulator.end(0.0) if not _is_of_a_neighbour(span, session, files)]
        for span in found:
            if isinstance(span, Generation) and span.request_name is not None:
                owners.setdefault(span.request_name, session)
        assert accumulator.needed_from() == {}, "an ended session needs no line any more"
    return found


def _of_host(session: str, mains: Mapping[str | None, str]) -> Takes:
    """Return what takes the records of a session's own log, but not those of other sessions that have logs."""
    lines = HostedLines(CLAUDE_CODE, session)
    return lambda record, line: (owner := lines.owner_of(record, line)) is None or owner not in mains


def _of_guest(session: str, host: str) -> Takes:
    """Return what takes a session's records in the log of another one."""
    lines = HostedLines(CLAUDE_CODE, host)
    return lambda record, line: lines.owner_of(record, line) == session


def _is_of_a_neighbour(span: Span, session: str, files: Mapping[str, bytes]) -> bool:
    """Return whether *span* is the trace of another session with its own main log, which gives it out itself."""
    others = (path.session for path in map(layout.classify, files) if path is not None and path.kind == "session")
    return isinstance(span, Trace) and span.turn is None and span.session != session and span.session in others


def built(
    found: Sequence[Span],
    attribution: Attribution | None = None,
    *,
    repository: str | None = None,
) -> list[events.CaptureEvent]:
    """Return the events of *found* as they are sent. Prompts have none, and the grouping decides about traces."""
    attribution = attribution or Attribution(distinct_id="ada@example.com")
    return [
        events.build(span, attribution, name=identity(span), repository=repository)
        for span in found
        if not isinstance(span, Prompt | SessionFacts)
        and not (isinstance(span, OpeningTrace) and attribution.grouping != "session")
        and not (isinstance(span, Trace) and (span.turn is None) != (attribution.grouping == "session"))
    ]


def identity(span: Span) -> str:
    """Return the identity of a span among all spans of all sessions."""
    if isinstance(span, OpeningTrace):
        return events.opening_key(span.session)
    assert not isinstance(span, SessionFacts), "it is no event"
    return events.trace_key(span.session, span.turn) if isinstance(span, Trace) else events.identity(span)


def body(event: events.CaptureEvent) -> dict[str, Any]:
    """Return an event's body as a value."""
    value = json.loads(event.body)
    assert isinstance(value, dict)
    return value


def properties(event: events.CaptureEvent) -> dict[str, Any]:
    """Return an event's properties."""
    value = body(event)["properties"]
    assert isinstance(value, dict)
    return value


def _cut(data: bytes, chunks: Sequence[int] | None) -> Iterator[bytes]:
    if not chunks:
        yield data
        return
    position = 0
    for size in cycle(chunks):
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size


def _sessions(files: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Return each session's files, the session first whose main file's first time is earliest."""
    members: dict[str, list[str]] = {}
    mains: set[str] = set()
    started: dict[str, tuple[str, bool, bool]] = {}
    for name, data in files.items():
        path = layout.classify(name)
        assert path is not None, f"{name} is no log"
        seen = [records.glance(line) for line in data.split(b"\n")]
        session = path.session or next((glance.session_id for glance in seen if glance.session_id), "")
        members.setdefault(session, []).append(name)
        first = next((glance for glance in seen if glance.timestamp), None)
        if first is None or first.timestamp is None or session in mains:
            continue
        # If there is no main log, any of the subagents' logs will do.
        if path.kind == "session" or session not in started:
            is_copy = any(glance.is_copy for glance in seen)
            started[session] = first.timestamp, is_copy, first.session_id != session
        if path.kind == "session":
            mains.add(session)
    last = (_LAST, False, False)
    return {session: members[session] for session in sorted(members, key=lambda name: started.get(name, last))}
