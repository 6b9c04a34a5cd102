"""A loopback capture server that judges requests as PostHog does, and fails on demand.

In a test:

    async with CaptureServer() as server:
        server.script(Answer(status=503), LoseAnswer())   # the first two requests; later ones are judged
        ...
        assert [event["uuid"] for event in server.events] == [...]

As a process, for tests that kill what sends: `python -m tests.support.capture_server --port 0 --record FILE` prints its
port, and appends each accepted event to FILE as one JSON line before it answers. With `--journal FILE` it appends one
JSON line for each request it has judged: which connection it came on, what became of it, and its events.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import sys
import time
import uuid as uuid_module
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Self, TextIO

from llma_core.events import CaptureEvent
from tests.support.waiting import PATIENCE

AI_PATH = "/i/v0/ai/batch/"
BATCH_PATH = "/batch/"

AI_EVENT_NAMES = frozenset(
    {
        "$ai_generation",
        "$ai_embedding",
        "$ai_evaluation",
        "$ai_span",
        "$ai_trace",
        "$ai_metric",
        "$ai_feedback",
    }
)

WIRE_LIMIT = 20 * 1024 * 1024
UNPACKED_LIMIT = 100 * 1024 * 1024
EVENT_LIMITS = {AI_PATH: 8 * 1024 * 1024, BATCH_PATH: 1_000_000}

_SURROGATE = re.compile("[\ud800-\udfff]")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer with this instead of judging. Nothing is recorded as accepted."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Judge. If the request is accepted, answer with this body, *late* seconds later."""

    body: bytes = b'{"status":1}'
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Judge and record, then drop the connection: the answer is lost."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the connection after the request's head, without reading its body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Read the request, write these bytes as they are, and close the connection, or *drip* one of them at a time.

    Attributes:
        data: what is written.
        drip: seconds between two bytes; 0: all at once. When all are written, the last is repeated for ever.
    """

    data: bytes
    drip: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Read the request, wait for *release*, then go on with *then*."""

    release: asyncio.Event
    then: Answer | Accept | LoseAnswer | Drop | Raw = field(default_factory=Accept)


Behaviour = Answer | Accept | LoseAnswer | Drop | Raw | Hold


@dataclass(slots=True)
class Request:
    """One request, and what became of it.

    Attributes:
        events: what its body held, as far as it could be read.
        status: what was answered, whether or not the answer was lost; None for a dropped request.
        text: the body of the answer.
        connection: number of the connection it came on, counted from 1 as they were opened.
        lost: whether its answer was lost on purpose.
        came: when its head had come, by a clock that only goes forward.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    events: list[Event] = field(default_factory=list)
    status: int | None = None
    text: str = ""
    connection: int = 0
    lost: bool = False
    came: float = field(default_factory=time.monotonic)


class Refusal(Exception):  # noqa: N818 -- an answer, not an error of the server
    """The request is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def is_ended(event: Event) -> bool:
    """Whether an event is the trace of what has ended."""
    return bool(event["event"] == "$ai_trace" and event["properties"]["claude_code_trace"] == "final")


class CaptureServer:
    """The server. An async context manager; its records stay readable after it.

    Args:
        ai_path: whether the AI path exists; it can be switched while the server runs.
        record: file object to append accepted events to, one JSON line each.
        journal: file object to append every judged request to, one JSON line each.
    """

    def __init__(
        self, *, ai_path: bool = True, port: int = 0, record: TextIO | None = None, journal: TextIO | None = None
    ) -> None:
        self.ai_path = ai_path
        self.fault: Callable[[Request], Behaviour | None] | None = None
        self.requests: list[Request] = []
        self.events: list[Event] = []
        self.violations: list[str] = []
        self._port = port
        self._record = record
        self._journal = journal
        self._opened = 0
        self._script: deque[Behaviour] = deque()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections are open; what came on one that is closed is dealt with."""
        return len(self._connections)

    @property
    def without_openings(self) -> list[Event]:
        """The received events but for opening traces, for tests that are about what comes after."""
        return [event for event in self.events if event["properties"].get("claude_code_trace") != "open"]

    @property
    def events_by_uuid(self) -> dict[str, list[Event]]:
        """Every time each event was accepted, by uuid, in order of first acceptance."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            found.setdefault(event["uuid"], []).append(event)
        return found

    def script(self, *behaviours: Behaviour) -> None:
        """Set the behavior for the next requests, one for each, before `fault` is asked."""
        self._script.extend(behaviours)

    def fail_at_random(self, share: float, *, seed: int, delay: float = 0.0) -> None:
        """Let *share* of all requests go wrong: errors, lost answers and drops, the same for the same *seed*.

        Args:
            share: from 0 to 1.
            seed: of the random numbers.
            delay: seconds up to which a request waits to be judged, and up to which an answer comes late.
        """
        draws = random.Random(seed)

        def judged() -> Answer | Accept | LoseAnswer | Drop:
            if draws.random() >= share:
                return Accept(late=draws.random() * delay)
            # No waiting: the tests are about retries, not about time.
            faults: list[Answer | LoseAnswer | Drop] = [Answer(status=status) for status in (503, 429, 500)]
            faults += [LoseAnswer(), Drop()]
            return draws.choice(faults)

        def fault(_: Request) -> Behaviour:
            if not delay:
                return judged()
            release = asyncio.Event()
            asyncio.get_running_loop().call_later(draws.random() * delay, release.set)
            return Hold(release, then=judged())

        self.fault = fault

    async def wait_requests(self, count: int) -> None:
        """Wait until *count* requests have come, answered or not.

        Raises:
            TimeoutError: They do not come in time.
        """
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    # The wire.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._opened += 1
        number = self._opened
        try:
            while await self._exchange(number, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away: its own affair
        except asyncio.CancelledError:
            pass  # the server closes; streams log a handler that ends so
        finally:
            self._connections.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _exchange(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request. Return whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        request = Request(method=method, path=path, headers=headers, connection=connection)
        behaviour = self._behaviour(request)
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        if isinstance(behaviour, Drop):
            writer.transport.abort()
            return False
        length = int(headers.get("content-length", "0"))
        if length > WIRE_LIMIT:
            await self._answer(request, writer, 413, b"length limit exceeded", ())
            return False
        request.body = await reader.readexactly(length)
        if isinstance(behaviour, Hold):
            await behaviour.release.wait()
            behaviour = behaviour.then
        return await self._treat(request, behaviour, writer)

    async def _treat(self, request: Request, behaviour: Behaviour, writer: asyncio.StreamWriter) -> bool:
        match behaviour:
            case Answer():
                await self._answer(request, writer, behaviour.status, behaviour.body, behaviour.headers)
            case Drop() | Hold():
                writer.transport.abort()
                return False
            case Raw():
                await self._write_raw(behaviour, writer)
                return False
            case Accept() | LoseAnswer():
                try:
                    self._accept(request)
                except Refusal as refusal:
                    status, body = refusal.status, refusal.text.encode()
                else:
                    status, body = 200, behaviour.body if isinstance(behaviour, Accept) else b""
                request.status, request.lost = status, isinstance(behaviour, LoseAnswer)
                self._note(request)
                if isinstance(behaviour, LoseAnswer):
                    writer.transport.abort()
                    return False
                if behaviour.late:
                    await asyncio.sleep(behaviour.late)
                kind = "application/json" if status == 200 else "text/plain; charset=utf-8"
                await self._answer(request, writer, status, body, (("Content-Type", kind),))
        return request.headers.get("connection", "").lower() != "close"

    async def _write_raw(self, raw: Raw, writer: asyncio.StreamWriter) -> None:
        if not raw.drip:
            writer.write(raw.data)
            await writer.drain()
            return
        for position in itertools.count():
            writer.write(raw.data[min(position, len(raw.data) - 1) :][:1])
            await writer.drain()
            await asyncio.sleep(raw.drip)

    async def _answer(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        request.status = status
        request.text = body.decode("utf-8", "replace")
        head = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()

    def _behaviour(self, request: Request) -> Behaviour:
        if self._script:
            return self._script.popleft()
        return (self.fault(request) if self.fault is not None else None) or Accept()

    def _note(self, request: Request) -> None:
        if self._journal is not None:
            noted = {name: getattr(request, name) for name in ("connection", "path", "status", "lost", "events")}
            self._journal.write(json.dumps(noted) + "\n")
            self._journal.flush()

    # The judgement.

    def _accept(self, request: Request) -> None:
        """Record the events of *request*, or raise Refusal."""
        if request.path not in (AI_PATH, BATCH_PATH) or (request.path == AI_PATH and not self.ai_path):
            raise Refusal(404, "")
        if request.method != "POST":
            raise Refusal(405, "")
        payload = self._payload(request)
        self._judge_key(payload.get("api_key"))
        if "sent_at" in payload:
            self._violation("sent_at makes the receiver shift every timestamp")
        batch = payload.get("batch")
        if not isinstance(batch, list) or not all(isinstance(event, dict) for event in batch):
            raise Refusal(400, "request holds no event array")
        if not batch:
            raise Refusal(400, "request holds no event")
        request.events = batch
        for event in batch:
            self._judge_event(event, request.path)
        uuids = [event["uuid"] for event in batch]
        if len(set(uuids)) < len(uuids):
            self.violations.append("a uuid stands twice in one request")
        self.events += batch
        if self._record is not None:
            self._record.writelines(json.dumps(event) + "\n" for event in batch)
            self._record.flush()

    def _violation(self, text: str) -> NoReturn:
        """Refuse what PostHog may take but no request of this project should ever have."""
        self.violations.append(text)
        raise Refusal(400, text)

    def _payload(self, request: Request) -> Event:
        if request.headers.get("content-type") != "application/json":
            self._violation("the Content-Type is not application/json")
        if request.headers.get("content-encoding") != "gzip" or not request.body.startswith(b"\x1f\x8b"):
            self._violation("the body is not compressed with gzip")
        raw = _unpacked(request.body)
        try:
            payload = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refusal(400, "failed to parse the body as JSON in UTF-8") from None
        if not isinstance(payload, dict):
            raise Refusal(400, "the body is not an object")
        # JSON in UTF-8 can only hold them as escapes, and most bodies have none.
        for text in _texts(payload) if b"\\u" in raw else ():
            if "\x00" in text:
                raise Refusal(400, "a string holds NUL")
            if _SURROGATE.search(text):
                raise Refusal(400, "a string holds a lone surrogate")
        return payload

    def _judge_key(self, key: object) -> None:
        if not isinstance(key, str):
            raise Refusal(401, "No API key was given")
        trimmed = key.strip()
        for wrong, fault in (
            (not trimmed, "empty"),
            (len(trimmed) > 64, "too_long"),
            (not trimmed.isascii(), "not_ascii"),
            (trimmed.startswith("phx_"), "personal_api_key"),
        ):
            if wrong:
                raise Refusal(401, f"API key is not valid: {fault}")

    def _judge_event(self, event: Event, path: str) -> None:
        name, properties = event.get("event"), event.get("properties")
        if not isinstance(name, str) or not name:
            raise Refusal(400, "event submitted with an empty event name")
        if path == AI_PATH and name not in AI_EVENT_NAMES:
            raise Refusal(400, f"{name} is not an AI event")
        if not isinstance(properties, dict):
            raise Refusal(400, "event submitted without properties")
        distinct_id = event.get("distinct_id") or properties.get("distinct_id")
        if not isinstance(distinct_id, str) or not distinct_id:
            raise Refusal(400, "event submitted without a distinct_id")
        try:
            uuid_module.UUID(event.get("uuid", ""))
        except (ValueError, AttributeError, TypeError):
            raise Refusal(400, "event submitted with an invalid uuid") from None
        timestamp = event.get("timestamp")
        if not isinstance(timestamp, str) or not TIMESTAMP.fullmatch(timestamp) or not _is_time(timestamp):
            self._violation("a timestamp is not RFC 3339 in UTC with Z and milliseconds")
        size = len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        if size > EVENT_LIMITS[path]:
            raise Refusal(
                413, f"AI event {name} (uuid {event['uuid']}) is {size} bytes, over the {EVENT_LIMITS[path]}-byte limit"
            )


def sample_event(number: int, *, text: str = "hello", **changes: object) -> CaptureEvent:
    """An event the server accepts, the same for the same *number*; *changes* replace its top-level fields."""
    uuid = str(uuid_module.uuid5(uuid_module.NAMESPACE_URL, str(number)))
    event = {
        "event": "$ai_generation",
        "uuid": uuid,
        "distinct_id": "someone@example.com",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "properties": {
            "$ai_trace_id": "trace",
            "$ai_span_id": f"msg_{number}",
            "$ai_input_tokens": number,
            "$ai_input": [{"role": "user", "content": text}],
        },
        **changes,
    }
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    return CaptureEvent(name=str(event["event"]), uuid=uuid, identity=f"generation:{number}", body=body)


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        raw = unpacker.decompress(body, UNPACKED_LIMIT)
    except zlib.error:
        raise Refusal(400, "failed to decompress the body") from None
    if unpacker.unconsumed_tail:
        raise Refusal(413, "the decompressed body is too large")
    if not unpacker.eof:
        raise Refusal(400, "the compressed body is cut short")
    return raw


def _texts(value: object) -> Iterator[str]:
    """Yield every string in *value*, keys included, without recursion."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            stack += item


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_time(timestamp: str) -> bool:
    try:
        datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    return True


async def _main(options: argparse.Namespace, record: TextIO | None, journal: TextIO | None) -> None:
    async with CaptureServer(
        ai_path=not options.no_ai_path, port=options.port, record=record, journal=journal
    ) as server:
        if options.fail_share or options.delay:
            server.fail_at_random(options.fail_share, seed=options.seed, delay=options.delay)
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take capture requests on loopback until killed.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path, help="file that accepted events are appended to")
    parser.add_argument("--journal", type=Path, help="file that judged requests are appended to")
    parser.add_argument("--no-ai-path", action="store_true", help="answer 404 on the AI path")
    parser.add_argument("--fail-share", type=float, default=0.0, help="share of requests that go wrong")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds up to which requests and answers are late")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as files:
        opened = [
            None if path is None else files.enter_context(path.open("a", encoding="utf-8"))
            for path in (arguments.record, arguments.journal)
        ]
        asyncio.run(_main(arguments, *opened))
