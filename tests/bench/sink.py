"""A loopback receiver that accepts everything and does as little as possible. It runs in its own process, so that its
work is not measured. It answers every POST with 200 and counts; GET /counts returns the counts since the previous one.

    python -m tests.bench.sink            prints its port; ends when its standard input does
    python -m tests.bench.sink --marks    also unpacks the bodies, and records when each `mark-<number>-` came first
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import zlib

__all__: list[str] = []

_ANSWER = b'{"status":1}'
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MARK = re.compile(rb"mark-(\d+)-")


class _Counts:
    """Counts of requests, bytes and marks."""

    def __init__(self, *, marks: bool) -> None:
        self._marks = marks
        self.requests = 0
        self.bytes = 0
        self.seen: dict[int, float] = {}

    def add(self, size: int, body: bytes) -> None:
        now = time.monotonic()
        self.requests += 1
        self.bytes += size
        if self._marks:
            for number in _MARK.findall(zlib.decompress(body, wbits=31)):
                self.seen.setdefault(int(number), now)

    def take(self) -> bytes:
        told = {"requests": self.requests, "bytes": self.bytes, "marks": sorted(self.seen.items())}
        self.requests, self.bytes, self.seen = 0, 0, {}
        return json.dumps(told).encode()

    @property
    def keeps(self) -> bool:
        """Whether bodies are searched for marks."""
        return self._marks


class _Connection(asyncio.Protocol):
    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._head = b""
        self._size = 0
        self._left = 0
        self._body: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._head = self._head[:end], self._head[end + 4 :], b""
            if head.startswith(b"GET"):
                self._answer(self._counts.take())
                return
            found = _LENGTH.search(head)
            assert found is not None, "a request has a Content-Length"
            self._size = self._left = int(found[1])
        self._left -= len(data)
        if self._counts.keeps:
            self._body.append(data)
        if not self._left:
            self._counts.add(self._size, b"".join(self._body))
            self._body = []
            self._answer(_ANSWER)

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    counts = _Counts(marks="--marks" in sys.argv[1:])
    server = await loop.create_server(lambda: _Connection(counts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The process that started this one holds the other end; when it is gone, this one ends, too.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
