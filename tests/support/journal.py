"""A second agent that exists only here: Scribe, whose journals hold three kinds of lines, each final at once.

    <config folder>/journals/<session>.ndjson

    {"kind": "ask", "id": "a1", "at": "2026-03-02T09:00:00Z", "cwd": "/orchard", "words": "Count"}
    {"kind": "say", "id": "s1", "at": ..., "cwd": ..., "model": "scribe-1", "words": "Three.", "tokens": [120, 7]}
    {"kind": "run", "id": "r1", "at": ..., "cwd": ..., "by": "s1", "tool": "count", "input": {}, "output": 3, "ms": 40}

`python -m tests.support.journal` is the daemon's command line with Scribe among the agents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from llma_core import agents, spans
from llma_core.agent import Accumulator, Agent, Glance, LogPath, Origin, UnknownRecord
from llma_core.decoding import decode_object, sendable
from llma_core.errors import RecordError
from llma_core.timestamps import milliseconds

__all__ = ["SCRIBE", "Scribe"]


class _Line(msgspec.Struct, kw_only=True):
    kind: Literal["ask", "say", "run"]
    id: str
    at: str
    cwd: str
    words: str = ""
    model: str = ""
    tokens: tuple[int, int] = (0, 0)
    by: str = ""
    tool: str = ""
    input: msgspec.Raw = msgspec.Raw(b"null")
    output: msgspec.Raw = msgspec.Raw(b"null")
    ms: int = 0


_decode = msgspec.json.Decoder(_Line).decode


def _record(line: bytes) -> _Line | UnknownRecord:
    line = sendable(line)
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        return UnknownRecord(str(decode_object(line).get("kind", "")))


def _line(line: bytes) -> _Line | None:
    try:
        record = _record(line)
    except RecordError:
        return None
    return record if isinstance(record, _Line) else None


class _Journal(Accumulator):
    def __init__(self, session: str) -> None:
        self._session = session
        self._asked: _Line | None = None
        self._first: spans.Context | None = None
        self._lines: list[_Line] = []

    def feed(self, record: Any, lines: spans.LineRange, *, agent: str | None = None, now: float) -> list[spans.Span]:
        del agent, now
        if isinstance(record, UnknownRecord):
            return []
        self.first_cwd = self.first_cwd or record.cwd
        self._asked = record if record.kind == "ask" else self._asked
        self._lines.append(record)
        turn, words = (self._asked.id, self._asked.words) if self._asked else (record.id, None)
        at = milliseconds(record.at) or 0
        context = spans.Context(
            framework=SCRIBE.framework, session=self._session, turn=spans.TurnKey(kind="prompt", id=turn),
            prompt=words, session_name=words, turn_name=words, cwd=record.cwd, near=at,
        )  # fmt: skip
        self._first = self._first or context
        if record.kind == "ask":
            return [spans.Prompt(identity=record.id, context=context, at=at, lines=lines)]
        if record.kind == "run":
            return [spans.ToolCall(
                identity=record.id, call_id=record.id, context=context, name=record.tool, generation=record.by,
                generation_ended_at=None, is_agent=False, called_at=at - record.ms, ended_at=at, status="ok", hooks=(),
                input=bytes(record.input), output=bytes(record.output), permission_decision=None, skill=None,
                lines=lines,
            )]  # fmt: skip
        block = msgspec.json.encode({"type": "text", "text": record.words})
        return [spans.Generation(
            identity=record.id, context=context, model=record.model,
            checksum=spans.checksum_of(record.id, record.at, block),
            provider="quill", usage=spans.TokenUsage(input=record.tokens[0], output=record.tokens[1]), started_at=None,
            output_partial=False, ended_at=at, stop_reason="end", input=(), tools_called=(), lines=lines,
            output=(spans.ContentBlock(type="text", raw=block),),
        )]  # fmt: skip

    def end(self, now: float) -> list[spans.Span]:
        del now
        if self._first is None:
            return []
        times = [milliseconds(line.at) or 0 for line in self._lines]
        kinds = [line.kind for line in self._lines]
        return [spans.Trace(
            scope="session", session=self._session, turn=None, context=self._first, name=self._first.session_name,
            started_at=times[0], first_at=times[0], ended_at=times[-1], generations=kinds.count("say"), subagents=0,
            input_tokens=sum(line.tokens[0] for line in self._lines), tool_calls=kinds.count("run"), api_errors=0,
            output_tokens=sum(line.tokens[1] for line in self._lines), compactions=0, prompt=self._first.prompt,
        )]  # fmt: skip


class Scribe(Agent):
    name = "scribe"
    framework = spans.Framework(name="scribe", prefix="scribe_", ids="sc-")
    root_folders = ("journals",)
    log_suffix = ".ndjson"
    by_project = False

    def classify(self, path: str) -> LogPath | None:
        folder, _, name = path.rpartition("/")
        session = name.removesuffix(self.log_suffix)
        return LogPath(kind="session", folder=folder, session=session, agent=None) if session != name else None

    def glance(self, line: bytes) -> Glance:
        said = _line(line)
        return Glance() if said is None else Glance(at=milliseconds(said.at))

    def origin(self, line: bytes) -> Origin | None:
        said = _line(line)
        return None if said is None else Origin(cwd=said.cwd)

    def decoder(self, *, whole_inputs: bool = False) -> Callable[[bytes], Any]:
        del whole_inputs
        return _record

    def accumulator(self, session: str, **_: Any) -> Accumulator:
        return _Journal(session)


SCRIBE = Scribe()

if __name__ == "__main__":
    from daemon.cli import run_main

    agents.AGENTS += (SCRIBE,)
    run_main()
