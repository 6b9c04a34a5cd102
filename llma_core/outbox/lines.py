"""The format of an outbox's lines: the only module that knows their keys.

The recorder's schema (`recorder/llma_recorder/line.schema.json`) is the contract. A field whose value has another type
than it says is left out, and counted together with the fields that this version does not know.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from llma_core.agent import UnknownRecord
from llma_core.decoding import decode_as, sendable
from llma_core.errors import RecordError
from llma_core.timestamps import milliseconds

__all__ = [
    "RECORDED",
    "CostLine",
    "ErrorLine",
    "EventLine",
    "ProcessLine",
    "SessionLine",
    "TotalsLine",
    "UsageLine",
    "decode",
]

_VERSION = 1
RECORDED = ("generation", "embedding", "span", "trace", "metric", "feedback")
"""The types of lines that are events."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONGEST_ID = 200
"""Characters of an id. The receiver cuts a longer one."""


class UsageLine(Struct, kw_only=True):
    """The object `usage`: counts of tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation_5m_input_tokens: int | None = None
    cache_creation_1h_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    web_search_count: int | None = None


class CostLine(Struct, kw_only=True):
    """The object `cost`: US dollars by the caller's own account."""

    total_usd: float | None = None
    input_usd: float | None = None
    output_usd: float | None = None


class ErrorLine(Struct, kw_only=True):
    """The object `error`. It may be empty: something failed, and more is not known."""

    type: str | None = None
    message: str | None = None


class TotalsLine(Struct, kw_only=True):
    """The object `totals`: what the recorder summed for a trace."""

    generations: int | None = None
    spans: int | None = None
    embeddings: int | None = None
    errors: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


class _Line(Struct, kw_only=True):
    """What every line may say.

    Attributes:
        ignored: how many of its fields are not known, or have a value that cannot be used.
    """

    v: int = _VERSION
    type: str = ""
    uuid: str = ""
    at: str | None = None
    ignored: int = 0


class ProcessLine(_Line, kw_only=True):
    """Which process writes the file."""

    pid: int | None = None
    started: int | None = None
    cwd: str | None = None
    library: str | None = None
    library_version: str | None = None
    language: str | None = None


class _About(_Line, kw_only=True):
    trace_id: str | int | None = None
    session_id: str | int | None = None
    span_id: str | int | None = None
    parent_id: str | int | None = None
    name: str | None = None
    distinct_id: str | int | None = None
    groups: Raw | None = None
    properties: Raw | None = None
    # These must not be taken for absent, whatever they hold.
    privacy_mode: Any = None
    local: Any = None
    api_key: Any = None
    host: Any = None
    latency_ms: float | None = None
    cost: CostLine | None = None
    http_status: int | None = None
    num_turns: int | None = None


class EventLine(_About, kw_only=True):
    """A line that is an event. `moment` is its time, in milliseconds since the epoch."""

    model: str | None = None
    provider: str | None = None
    input: Raw | None = None
    output: Raw | None = None
    usage: UsageLine | None = None
    cache_exclusive: bool | None = None
    error: ErrorLine | None = None
    raw_usage: Raw | None = None
    time_to_first_token_ms: float | None = None
    stream: bool | None = None
    stop_reason: str | None = None
    model_parameters: Raw | None = None
    tools: Raw | None = None
    base_url: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    kind: str | None = None
    totals: TotalsLine | None = None
    outcome: str | None = None
    metric: str | None = None
    feedback: str | None = None
    value: Raw | None = None
    text: str | None = None
    moment: int = 0


class SessionLine(_About, kw_only=True):
    """Facts about a session that another log holds."""

    agent: str | None = None
    phase: str | None = None
    duration_api_ms: float | None = None
    subtype: str | None = None


class _Head(Struct):
    v: Any = _VERSION
    type: Any = ""


_head = msgspec.json.Decoder(_Head).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_process = msgspec.json.Decoder(ProcessLine).decode
_event = msgspec.json.Decoder(EventLine).decode
_session = msgspec.json.Decoder(SessionLine).decode
_ADDED = ("ignored", "moment")
_HEAD = ("v", "type", "uuid")
_OBJECTS = ("groups", "properties", "raw_usage", "model_parameters")
_RESTRAINTS = ("privacy_mode", "local")
_ROUTES = ("api_key", "host")


def decode(data: bytes) -> ProcessLine | EventLine | SessionLine | UnknownRecord:
    """Return what a line, without its end, says.

    Raises:
        RecordError: it holds no record, or one without an identity or a time. The reason names no content.
    """
    data = sendable(data)
    try:
        head, fields = _head(data), _fields(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RecordError("not a JSON object") from None
    kind = head.type if isinstance(head.type, str) else ""
    if head.v != _VERSION:
        return UnknownRecord(f"{kind or 'line'}-v{head.v}" if isinstance(head.v, int) else "")
    line: ProcessLine | EventLine | SessionLine | None
    if kind in RECORDED:
        line = decode_as(EventLine, _event, data)
    elif kind == "process":
        line = decode_as(ProcessLine, _process, data)
    elif kind == "session":
        line = decode_as(SessionLine, _session, data)
    else:
        return UnknownRecord(kind)
    if line is None:
        raise RecordError("nested too deep")
    _check(line, fields)
    if isinstance(line, EventLine):
        line.uuid = line.uuid.lower()
        if _UUID.fullmatch(line.uuid) is None:
            raise RecordError("it has no uuid")
        at = milliseconds(line.at)
        if at is None and line.uuid[14] != "7":
            raise RecordError("it has no time")
        # A version 7 UUID begins with the time at which it was made.
        line.moment = int(line.uuid[:8] + line.uuid[9:13], 16) if at is None else at
    return line


def _check(line: _Line, fields: dict[str, Raw]) -> None:
    """Drop values that cannot be used, and count the fields that are ignored."""
    known = [name for name in line.__struct_fields__ if name not in _ADDED]
    line.ignored = len(fields.keys() - {*known})
    for name in known:
        value = getattr(line, name)
        if name not in _HEAD and value is not None and not _is_usable(name, value):
            setattr(line, name, None)
            value = None
        if value is None and name in fields and bytes(fields[name]) != b"null":
            line.ignored += 1
    if isinstance(line, _About):
        for part in (getattr(line, name, None) for name in ("cost", "error", "usage", "totals")):
            for name in part.__struct_fields__ if part is not None else ():
                if not _is_usable(name, getattr(part, name)):
                    setattr(part, name, None)
        for name in ("distinct_id", "trace_id", "session_id", "span_id", "parent_id"):
            if (given := getattr(line, name)) is not None:
                setattr(line, name, str(given).strip()[:_LONGEST_ID] or None)


def _is_usable(name: str, value: Any) -> bool:
    """Whether a value is none that no count, duration or cost has, and no empty text.

    What keeps a line back is one whatever it is; without that, the line would go where it may not.
    """
    if isinstance(value, bool) or name in _RESTRAINTS:
        return True
    if name in _ROUTES:
        return bool(value != "")
    if isinstance(value, int | float):
        return math.isfinite(value) and 0 <= value <= _MOST
    if isinstance(value, Raw):
        raw = bytes(value)
        return raw.startswith(b"{") if name in _OBJECTS else raw != b"null"
    return value != "" or name == "message"


_MOST = 2**53
"""Largest number that every reader of JSON takes as it is."""
