"""A second reader of session logs, to compare the first one with. It only counts what is in a set of files.

It shares no code with the packages and was written from the knowledge of the logs alone. It keeps everything in memory,
reads whole files one after the other, and ignores time. Everything that is not a count is left out.

    counted(files)[session].generations

An API response consists of all lines with its message id. It belongs to the session that wrote it first; other logs
hold copies. Its counts are those of its last line with a stop reason, or else the greatest ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Counts", "counted"]

Json = dict[str, Any]

_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_creation": "cache_creation_input_tokens",
}


@dataclass(slots=True)
class Counts:
    """The counts of one session. Token counts that no line has are zero."""

    generations: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    api_errors: int = 0
    compactions: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0


@dataclass(slots=True)
class _Response:
    """All lines of one message in the log that wrote it first."""

    log: str
    owner: str
    lines: list[Json] = field(default_factory=list)


def counted(files: Mapping[str, bytes]) -> dict[str, Counts]:
    """Count what is in *files*, by session. Sessions without any count are left out.

    Args:
        files: bytes by path relative to the `projects` folder. Meta files are ignored.
    """
    logs = _logs(files)
    responses: dict[str, list[_Response]] = {}
    calls: dict[str, str] = {}
    results: dict[str, Json] = {}
    happened: dict[str, tuple[str, str]] = {}
    for log, line in ((name, line) for name in _in_order(logs) for line in logs[name]):
        message = line.get("message") if isinstance(line.get("message"), dict) else {}
        owner = _owner(line, log)
        if line["type"] == "assistant" and line.get("isApiErrorMessage"):
            happened.setdefault(line["uuid"], ("api_errors", owner))
        elif line["type"] == "assistant" and message and message.get("model") != "<synthetic>":
            known = responses.setdefault(message["id"], [])
            response = next((one for one in known if _is_of(line, log, one)), None)
            if response is None:
                known.append(response := _Response(log, owner))
            if response.log == log:
                response.lines.append(line)
            for block in _blocks(message, "tool_use"):
                calls.setdefault(block["id"], response.owner)
        elif line["type"] == "user":
            for block in _blocks(message, "tool_result"):
                results.setdefault(block["tool_use_id"], block)
        elif line["type"] == "system" and line["subtype"] in ("api_error", "compact_boundary"):
            kind = "api_errors" if line["subtype"] == "api_error" else "compactions"
            happened.setdefault(line["uuid"], (kind, owner))

    found: dict[str, Counts] = {}
    for response in (one for known in responses.values() for one in known):
        for tokens in _calls(response.lines):
            _add(found, response.owner, generations=1, **tokens)
    for call, owner in calls.items():
        _add(found, owner, tool_calls=1, tool_errors=bool(results.get(call, {}).get("is_error")))
    for kind, owner in happened.values():
        _add(found, owner, **{kind: 1})
    return found


def _logs(files: Mapping[str, bytes]) -> dict[str, list[Json]]:
    """Return the session and the conversation lines of every log. Broken lines are left out."""
    logs: dict[str, list[Json]] = {}
    for name in sorted(files, key=lambda name: "agent-" in name):
        if not name.endswith(".jsonl"):
            continue
        lines = list(_lines(files[name]))
        session = name.rpartition("/")[2].removesuffix(".jsonl")
        if "/subagents/" in name:
            session = name.split("/")[-3]
        elif session.startswith("agent-"):
            session = next((line["sessionId"] for line in lines if line.get("sessionId")), "")
        logs.setdefault(session, []).extend(lines)
    return logs


def _lines(data: bytes) -> Iterator[Json]:
    *whole, rest = data.split(b"\n")
    # After the last line end there is a line that is still being written, unless only its line end is missing.
    for raw in [*whole, rest] if _is_object(rest) else whole:
        for line in _whole(raw.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf").decode(errors="replace")):
            yield {"type": None, "subtype": None, **line}


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _whole(text: str) -> Iterator[Json]:
    """Yield the records of a line; a damaged one may hold several, and other things."""
    try:
        line = json.loads(text)
    except ValueError:
        at = 0
        while (at := text.find('{"', at)) >= 0:
            try:
                line, end = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                at += 1
                continue
            if line.get("type") in ("user", "assistant", "system"):
                yield line
            at = end
        return
    if isinstance(line, dict):
        yield line


def _in_order(logs: Mapping[str, Sequence[Json]]) -> list[str]:
    """Return the logs in the order of their beginnings, an original before its copies."""

    def began(log: str) -> tuple[str, bool, bool]:
        marked = any("requestSessionId" in line or "forkedFrom" in line for line in logs[log])
        first = next((line for line in logs[log] if line.get("timestamp")), {})
        return first.get("timestamp", "~"), marked, first.get("sessionId") != log

    return sorted(logs, key=began)


def _owner(line: Json, log: str) -> str:
    """Return the session that wrote a line, if the line says so."""
    forked = line.get("forkedFrom") or {}
    return line.get("requestSessionId") or forked.get("sessionId") or line.get("sessionId") or log


def _is_of(line: Json, log: str, response: _Response) -> bool:
    """Whether a line belongs to a message: answers to different requests may have the same message id."""
    requests = {other.get("requestId") for other in response.lines} - {None}
    if line.get("requestId") and requests and line["requestId"] not in requests:
        return False
    return response.log == log or _is_copy(line, response)


def _is_copy(line: Json, response: _Response) -> bool:
    """Return whether a line of another log is a copy of the message, and not another message with the same id."""
    return any(
        line.get("uuid") == other.get("uuid")
        or line.get("timestamp") == other.get("timestamp")
        or line["message"]["content"] == other["message"]["content"]
        for other in response.lines
    )


def _blocks(message: Json | None, kind: str) -> Iterator[Json]:
    content = (message or {}).get("content")
    for block in content if isinstance(content, list) else []:
        if block.get("type") == kind:
            yield block


def _calls(lines: Sequence[Json]) -> Iterator[dict[str, int]]:
    """Yield the tokens of a call, and those of each call that was made inside it.

    Inside a call, another model is asked, or the conversation is compacted. Those tokens are not among the call's own.
    """
    yield _tokens(lines)
    for part in _usage_of(lines).get("iterations") or ():
        if part["type"] != "message":
            yield {name: part.get(key) or 0 for name, key in _TOKENS.items()}


def _usage_of(lines: Sequence[Json]) -> Json:
    """Return the usage of the last line with a stop reason, else the last that has the greatest output count."""
    shown: list[Json] = [line["message"].get("usage") or {} for line in lines]
    last = [line["message"].get("usage") or {} for line in lines if line["message"].get("stop_reason") is not None]
    return (last or sorted(shown, key=lambda counts: counts.get("output_tokens") or 0))[-1]


def _tokens(lines: Sequence[Json]) -> dict[str, int]:
    shown = [line["message"].get("usage") or {} for line in lines]
    last = [line["message"].get("usage") or {} for line in lines if line["message"].get("stop_reason") is not None]
    ends = last[-1] if last else {}
    return {
        name: ends[key] if ends.get(key) is not None else max((counts.get(key) or 0 for counts in shown), default=0)
        for name, key in _TOKENS.items()
    }


def _add(found: dict[str, Counts], session: str, **more: int) -> None:
    counts = found.setdefault(session, Counts())
    for name, count in more.items():
        setattr(counts, name, getattr(counts, name) + int(count))
