"""The exact API request, rebuilt from the lines in which a client of 2.1.300 or later keeps it.

A request line lists its messages by hash. Each is to be found in the same file, before the request:

- in a blob line, or
- in the conversation's own lines. Lines of a person or tool that follow each other make one message, and so do the
  lines of one answer; whatever lines of other kinds stand between. Every beginning of such a run may have been sent.

The system prompt and the tools stand in a shape line of their own. A compaction makes the client forget what it has
written: what is sent after it stands behind it again.

A message's hash is the SHA-256 of its JSON with sorted keys and without blanks, in UTF-8: all its keys (a system
message may have parameters of its own), a string content as one text block, no cache control at any depth, numbers as
the client wrote them. A shape is hashed alike. (All of this as 2.1.329 does it, compared with what went over the wire,
which has a billing line before the system prompt that the log leaves out.)

Nothing is taken on trust: a message is only ever found by the hash of what it holds. One in which the reader had to
replace characters (a NUL, half a surrogate pair) hashes to something else and is not found.
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
    known,
    request_message,
    shape,
    strings,
)
from llma_core.spans import Request, RequestMessage

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["MEMORY_BYTES", "RequestLog"]

MEMORY_BYTES = 32 * 1024 * 1024
"""Bytes of messages, system prompts and tools remembered for one thread. A full context window is some 4 MB of text;
what has more than this (many images) loses its oldest messages, and the requests that hold them are not rebuilt."""

_NAME_BYTES = 200
"""What remembering one hash costs, about."""
_REMEMBERED_REQUESTS = 16
"""A request builds on the one before it, and an answer names one of the last few: the client tries at most 11 times."""
_MOST_MESSAGES = 100_000
"""The API takes no more in one request."""

_CACHE_CONTROL = b"cache_control"


@dataclass(slots=True)
class _Kept:
    """What can be dropped at once, and the hashes it is found by.

    Attributes:
        role: of a message.
        message: id of the answer whose lines these are.
        blocks: as logged, one behind the other.
        digest: over what of the message is there so far; None for what will not grow.
    """

    role: str
    message: str | None = None
    blocks: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
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
    """A request: the hashes of its messages (None: they are not known), its shape's, and whether it is incomplete."""

    messages: list[str] | None
    shape: str
    cut: bool


class RequestLog:
    """The requests of one thread.

    What `request` says is a function of the lines taken before and of *memory* alone.

    Args:
        memory: bytes to remember; see MEMORY_BYTES.
    """

    def __init__(self, memory: int = MEMORY_BYTES) -> None:
        self._memory = memory
        self._size = 0
        self._kept: deque[_Kept] = deque()
        self._run: _Kept | None = None
        self._messages: dict[str, tuple[_Kept, int]] = {}
        self._shapes: dict[str, _Shape] = {}
        self._sent: dict[str, _Sent] = {}

    @property
    def size(self) -> int:
        """Bytes remembered, about; at most *memory* and one line."""
        return self._size

    def take(self, record: Record) -> None:
        """Take the record of one of the thread's lines, in the order of its file."""
        match record:
            case UserRecord() | AssistantRecord():
                self._row(record)
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
        """Return a request as it was sent, as far as it can be rebuilt; None if none of this id is known."""
        sent = self._sent.get(identity)
        if sent is None:
            return None
        found = self._shapes.get(sent.shape)
        messages = self._found(sent.messages) if sent.messages is not None else None
        return Request(
            system=found.system if found else (),
            tools=found.tools if found else None,
            messages=messages,
            exact=messages is not None and found is not None and found.verified and not sent.cut,
        )

    def _found(self, names: list[str]) -> tuple[RequestMessage, ...] | None:
        messages = []
        for name in names:
            place = self._messages.get(name)
            if place is None:
                return None
            kept, count = place
            messages.append(RequestMessage(role=kept.role, blocks=tuple(kept.blocks[:count])))
        return tuple(messages)

    # ------------------------------------------------------------------ lines

    def _row(self, record: UserRecord | AssistantRecord) -> None:
        message = record.message
        parts = blocks(message.content) if message is not None else []
        if message is None or not message.role or not parts:
            self._run = None
            return
        run = self._run
        belongs = (
            run is not None
            and run.digest is not None
            and run.role == message.role
            and (message.role == "user" or (message.id is not None and message.id == run.message))
        )
        if run is None or not belongs:
            if run is not None:
                run.digest = None
            run = self._run = _Kept(role=message.role, message=message.id, digest=_begin())
            self._kept.append(run)
        assert run.digest is not None
        try:
            _extend(run.digest, parts, first=not run.blocks)
        except _UNHASHABLE:
            # Nobody can say what it hashes to, or what it is the beginning of.
            self._run = None
            return
        self._add(run, parts, _name(run.digest, run.role))

    def _blob(self, record: RequestBlobRecord) -> None:
        message = request_message(record)
        if message is None or not message.role or not record.hash or record.hash in self._messages:
            return
        parts = blocks(message.content)
        if _hash(record.message) != record.hash:
            return
        kept = _Kept(role=message.role)
        self._kept.append(kept)
        self._add(kept, parts, record.hash)

    def _add(self, kept: _Kept, parts: list[Block], name: str) -> None:
        size = _NAME_BYTES + sum(len(part.raw) for part in parts)
        kept.blocks += [part.raw for part in parts]
        kept.names.append(name)
        kept.size += size
        self._messages[name] = kept, len(kept.blocks)
        self._size += size
        self._shrink()

    def _shape(self, record: RequestShapeRecord) -> None:
        said = shape(record)
        name = record.shape_hash
        if said is None or not name or name in self._shapes:
            return
        verified = _hash(record.shape) == name
        tools = bytes(said.tools)
        system = tuple(part.raw for part in blocks(said.system))
        size = _NAME_BYTES + len(tools) + sum(map(len, system))
        self._shapes[name] = _Shape(system, tools if tools[:1] == b"[" else None, verified, size)
        self._size += size
        self._shrink()

    def _request(self, record: ApiRequestRecord) -> None:
        if not record.id:
            return
        before = self._sent.get(record.base) if record.base else None
        names = before.messages if before is not None else [] if record.base is None else None
        keep, tail = record.keep or 0, strings(record.tail)
        messages = None
        if names is not None and tail is not None and 0 <= keep <= len(names) and keep + len(tail) <= _MOST_MESSAGES:
            messages = names[:keep] + tail
        self._sent.pop(record.id, None)
        self._sent[record.id] = _Sent(messages, record.shape_hash or "", known(record.cut) is not None)
        if len(self._sent) > _REMEMBERED_REQUESTS:
            del self._sent[next(iter(self._sent))]

    # ------------------------------------------------------------------ memory

    def _forget(self) -> None:
        self._kept.clear()
        self._messages.clear()
        self._shapes.clear()
        self._run = None
        self._size = 0

    def _shrink(self) -> None:
        """Drop what is oldest until the rest is not too much; shapes last, for every request needs one."""
        while self._size > self._memory and (self._kept or self._shapes):
            if not self._kept:
                oldest = next(iter(self._shapes))
                self._size -= self._shapes.pop(oldest).size
                continue
            kept = self._kept.popleft()
            self._size -= kept.size
            for name in kept.names:
                if self._messages[name][0] is kept:
                    del self._messages[name]
            if kept is self._run:
                self._run = None


# ---------------------------------------------------------------------- hashing


def _begin() -> _Hash:
    return hashlib.sha256(b'{"content":[')


def _extend(digest: _Hash, parts: list[Block], *, first: bool) -> None:
    for part in parts:
        if not first:
            digest.update(b",")
        digest.update(_canonical(part.raw))
        first = False


def _name(digest: _Hash, role: str) -> str:
    whole = digest.copy()
    whole.update(b'],"role":' + msgspec.json.encode(role) + b"}")
    return whole.hexdigest()


# A number keeps the digits it was written with: what was hashed is the client's way to write it, not this one's.
_decode = msgspec.json.Decoder(float_hook=lambda digits: msgspec.Raw(digits.encode())).decode
_encode = msgspec.json.Encoder(order="sorted").encode
# What a value that cannot be hashed gives: it is no JSON, nested too deep, or has a number of thousands of digits.
_UNHASHABLE = (msgspec.MsgspecError, RecursionError, ValueError)


def _canonical(data: bytes) -> bytes:
    """Return a JSON value as it is hashed.

    Raises:
        _UNHASHABLE: it cannot be.
    """
    value = _decode(data)
    return _encode(_without_cache_control(value) if _CACHE_CONTROL in data else value)


def _hash(data: msgspec.Raw) -> str | None:
    """Return the hash of a shape, or of a message; None if it has none."""
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
