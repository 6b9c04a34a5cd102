"""Rebuilds the exact API request from the log lines in which a client of 2.1.300 or later keeps it.

A request line lists its messages by their hashes. Each message is logged in the same file, before the request:

- either in a blob line,
- or in the lines of the conversation. Consecutive lines of a person or a tool make one message, and so do the lines of
  one answer, even if lines of other kinds are between them. Any beginning of such a run may have been sent.

The system prompt and the tools are in a shape line of their own. After a compaction, Claude Code starts over: what it
sends from then on is logged again after the compaction.

The hash of a message is the SHA-256 of its JSON with sorted keys and no whitespace, in UTF-8. All keys count; a system
message may have parameters of its own. A string content counts as one text block. Cache control is left out at every
depth. Numbers are spelled as Claude Code wrote them. Shapes are hashed in the same way. (2.1.329 does it like this; it
was compared with what went over the wire, which has a billing line before the system prompt that the log leaves out.)

Nothing is assumed: a message is only ever found by the hash of its content. If the reader had to replace characters in
a message (a NUL, half of a surrogate pair), its hash differs and it is not found.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from llma_core.claude_code.records import (
    ApiRequestRecord,
    AssistantRecord,
    Block,
    Record,
    RequestBlobRecord,
    RequestShapeRecord,
    SystemRecord,
    UserRecord,
    blocks,
    not_null,
    request_message,
    shape,
    strings,
)
from llma_core.spans import Request, RequestMessage

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["MEMORY_BYTES", "RequestLog"]

MEMORY_BYTES = 32 * 1024 * 1024
"""Bytes of messages, system prompts and tools remembered for one thread.

A full context window is about 4 MB of text. A thread that needs more, because of many images, loses its oldest
messages. Requests with these messages are not rebuilt.
"""

_HASH_BYTES = 200
"""Approximate overhead of remembering one hash."""
_REMEMBERED_REQUESTS = 16
"""Number of requests run. A request builds on the one before it, and an answer hashes one of at most 11 attempts."""
_MOST_MESSAGES = 100_000
"""The API accepts at most this many messages in a request."""

_CACHE_CONTROL = b"cache_control"


@dataclass(slots=True)
class _Run:
    """A run of lines that may make a message. It is dropped as a whole.

    Attributes:
        role: the message's role.
        message: the answer's id, if it is one.
        blocks: the blocks of all lines, as logged.
        hashes: the hashes under which its beginnings are found.
        size: bytes it takes, about.
        digest: the hash state after the blocks so far; None if no more lines will be added.
    """

    role: str
    message: str | None = None
    blocks: list[bytes] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    size: int = 0
    digest: _Hash | None = None


@dataclass(slots=True)
class _Shape:
    system: tuple[bytes, ...]
    tools: bytes | None
    verified: bool
    size: int


@dataclass(slots=True)
class _Sent:
    """A request.

    Attributes:
        messages: the hashes of its messages; None if they are not known.
        shape: the hash of its shape.
        cut: whether Claude Code left something out of the log.
    """

    messages: list[str] | None
    shape: str
    cut: bool


class RequestLog:
    """The requests of one thread.

    What `request` returns depends on the lines taken before and on *memory*, and on nothing else.

    Args:
        memory: bytes to remember; see MEMORY_BYTES.
    """

    def __init__(self, memory: int = MEMORY_BYTES) -> None:
        self._memory = memory
        self._size = 0
        self._runs: deque[_Run] = deque()
        self._open_run: _Run | None = None
        self._messages: dict[str, tuple[_Run, int]] = {}
        self._shapes: dict[str, _Shape] = {}
        self._sent: dict[str, _Sent] = {}

    @property
    def size(self) -> int:
        """Approximate bytes remembered; at most *memory* plus one line."""
        return self._size

    def take(self, record: Record) -> None:
        """Process one of the thread's lines. They must come in the order of the file."""
        match record:
            case UserRecord() | AssistantRecord():
                self._conversation_line(record)
            case RequestBlobRecord():
                self._blob(record)
            case RequestShapeRecord():
                self._shape(record)
            case ApiRequestRecord():
                self._request(record)
            case SystemRecord(subtype="compact_boundary"):
                self._forget()
            case _:
                pass

    def request(self, identity: str) -> Request | None:
        """Return a request as it was sent, as far as it can be rebuilt; None if no request has this id."""
        sent = self._sent.get(identity)
        if sent is None:
            return None
        found = self._shapes.get(sent.shape)
        messages = self._rebuilt(sent.messages) if sent.messages is not None else None
        return Request(
            system=found.system if found else (),
            tools=found.tools if found else None,
            messages=messages,
            exact=messages is not None and found is not None and found.verified and not sent.cut,
        )

    def _rebuilt(self, hashes: list[str]) -> tuple[RequestMessage, ...] | None:
        messages = []
        for digest in hashes:
            place = self._messages.get(digest)
            if place is None:
                return None
            run, count = place
            messages.append(RequestMessage(role=run.role, blocks=tuple(run.blocks[:count])))
        return tuple(messages)

    # ------------------------------------------------------------------ lines

    def _conversation_line(self, record: UserRecord | AssistantRecord) -> None:
        message = record.message
        parts = blocks(message.content) if message is not None else []
        if message is None or not message.role or not parts:
            self._open_run = None
            return
        run = self._open_run
        belongs = (
            run is not None
            and run.digest is not None
            and run.role == message.role
            and (message.role == "user" or (message.id is not None and message.id == run.message))
        )
        if run is None or not belongs:
            if run is not None:
                run.digest = None
            run = self._open_run = _Run(role=message.role, message=message.id, digest=_begin())
            self._runs.append(run)
        assert run.digest is not None
        try:
            _extend(run.digest, parts, first=not run.blocks)
        except _UNHASHABLE:
            # The hash is not known, neither of this line nor of anything that continues it.
            self._open_run = None
            return
        self._add(run, parts, _message_hash(run.digest, run.role))

    def _blob(self, record: RequestBlobRecord) -> None:
        message = request_message(record)
        if message is None or not message.role or not record.hash or record.hash in self._messages:
            return
        parts = blocks(message.content)
        if _hash(record.message) != record.hash:
            return
        run = _Run(role=message.role)
        self._runs.append(run)
        self._add(run, parts, record.hash)

    def _add(self, run: _Run, parts: list[Block], name: str) -> None:
        size = _HASH_BYTES + sum(len(part.raw) for part in parts)
        run.blocks += [part.raw for part in parts]
        run.hashes.append(name)
        run.size += size
        self._messages[name] = run, len(run.blocks)
        self._size += size
        self._shrink()

    def _shape(self, record: RequestShapeRecord) -> None:
        decoded = shape(record)
        name = record.shape_hash
        if decoded is None or not name or name in self._shapes:
            return
        verified = _hash(record.shape) == name
        tools = bytes(decoded.tools)
        system = tuple(part.raw for part in blocks(decoded.system))
        size = _HASH_BYTES + len(tools) + sum(map(len, system))
        self._shapes[name] = _Shape(system, tools if tools[:1] == b"[" else None, verified, size)
        self._size += size
        self._shrink()

    def _request(self, record: ApiRequestRecord) -> None:
        if not record.id:
            return
        before = self._sent.get(record.base) if record.base else None
        hashes = before.messages if before is not None else [] if record.base is None else None
        keep, tail = record.keep or 0, strings(record.tail)
        messages = None
        if hashes is not None and tail is not None and 0 <= keep <= len(hashes) and keep + len(tail) <= _MOST_MESSAGES:
            messages = hashes[:keep] + tail
        self._sent.pop(record.id, None)
        self._sent[record.id] = _Sent(messages, record.shape_hash or "", not_null(record.cut) is not None)
        if len(self._sent) > _REMEMBERED_REQUESTS:
            del self._sent[next(iter(self._sent))]

    # ------------------------------------------------------------------ memory

    def _forget(self) -> None:
        self._runs.clear()
        self._messages.clear()
        self._shapes.clear()
        self._open_run = None
        self._size = 0

    def _shrink(self) -> None:
        """Drop the oldest messages until the rest fits; then the oldest shapes, which every request needs."""
        while self._size > self._memory and (self._runs or self._shapes):
            if not self._runs:
                oldest = next(iter(self._shapes))
                self._size -= self._shapes.pop(oldest).size
                continue
            run = self._runs.popleft()
            self._size -= run.size
            for name in run.hashes:
                if self._messages[name][0] is run:
                    del self._messages[name]
            if run is self._open_run:
                self._open_run = None


# ---------------------------------------------------------------------- hashing


def _begin() -> _Hash:
    return hashlib.sha256(b'{"content":[')


def _extend(digest: _Hash, parts: list[Block], *, first: bool) -> None:
    for part in parts:
        if not first:
            digest.update(b",")
        digest.update(_canonical(part.raw))
        first = False


def _message_hash(digest: _Hash, role: str) -> str:
    whole = digest.copy()
    whole.update(b'],"role":' + msgspec.json.encode(role) + b"}")
    return whole.hexdigest()


# A number keeps the digits it was logged with, because Claude Code hashed its own spelling.
_decode = msgspec.json.Decoder(float_hook=lambda digits: msgspec.Raw(digits.encode())).decode
_encode = msgspec.json.Encoder(order="sorted").encode
# Raised for a value that cannot be hashed: it is not JSON, is nested too deep, or has a number of thousands of digits.
_UNHASHABLE = (msgspec.MsgspecError, RecursionError, ValueError)


def _canonical(data: bytes) -> bytes:
    """Return a JSON value in the form that is hashed.

    Raises:
        _UNHASHABLE: it cannot be hashed.
    """
    value = _decode(data)
    return _encode(_without_cache_control(value) if _CACHE_CONTROL in data else value)


def _hash(data: msgspec.Raw) -> str | None:
    """Return the hash of a shape or a message; None if it cannot be hashed."""
    try:
        value = _decode(data)
        if isinstance(value, dict) and isinstance(value.get("content"), str):
            value["content"] = [{"type": "text", "text": value["content"]}]
        return hashlib.sha256(_encode(_without_cache_control(value))).hexdigest()
    except _UNHASHABLE:
        return None


def _without_cache_control(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_cache_control(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_cache_control(item) for key, item in value.items() if key != "cache_control"}
    return value
