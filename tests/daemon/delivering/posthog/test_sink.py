from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib.util
import json
import random
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.delivering.batcher import BatchLimits
from daemon.delivering.delivery import Delivery, EventOutcome
from daemon.delivering.posthog import sink as capture
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, SinkConfigError, Stopped
from llma_core import __version__
from llma_core.events import AI_EVENT_LIMIT, BATCH_EVENT_LIMIT, CaptureEvent
from tests.support.capture_server import (
    AI_PATH,
    BATCH_PATH,
    Accept,
    Answer,
    Behaviour,
    CaptureServer,
    Drop,
    Hold,
    LoseAnswer,
    Raw,
    sample_event,
)
from tests.support.waiting import PATIENCE

KEY = "phc_aSecretThatIsNeverLogged"
DAY = 86_400


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(name="server")
async def _server() -> AsyncIterator[CaptureServer]:
    async with CaptureServer() as server:
        yield server


@asynccontextmanager
async def sink_to(url: str, **options: object) -> AsyncIterator[CaptureSink]:
    sink = CaptureSink(url, KEY, **options)  # type: ignore[arg-type]
    try:
        yield sink
    finally:
        await sink.aclose()


async def send_once(server: CaptureServer, *behaviours: Behaviour) -> AttemptOutcome:
    server.script(*behaviours)
    async with sink_to(server.url) as sink:
        return await sink.send([sample_event(0), sample_event(1)])


class Lab:
    """A sink and its delivery, with a clock that sleeping advances, and a record of what was settled."""

    def __init__(self, url: str, *, concurrency: int = 1, count: int = 100) -> None:
        self.now = 1_767_686_400.0
        self.slept: list[float] = []
        self.settled: list[EventOutcome] = []
        self.sink = CaptureSink(url, KEY, clock=self.clock)
        self.delivery = Delivery(
            self.sink,
            batch=BatchLimits(count=count, linger=0),
            concurrency=concurrency,
            settle=self.settle,
            clock=self.clock,
            sleep=self.sleep,
            random=lambda: 0.0,
        )

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def settle(self, settled: Sequence[EventOutcome]) -> None:
        self.settled += settled

    def uuids(self, outcome: str) -> list[str]:
        return [one.event.uuid for one in self.settled if one.outcome == outcome]

    async def deliver(self, *events: CaptureEvent) -> bool:
        """Queue all *events* before the first is sent, so that the batches are the same each time."""
        for event in events:
            await self.delivery.put(event)
        self.delivery.start()
        return await self.delivery.flush()


@asynccontextmanager
async def lab_at(url: str, *, concurrency: int = 1, count: int = 100) -> AsyncIterator[Lab]:
    lab = Lab(url, concurrency=concurrency, count=count)
    try:
        yield lab
    finally:
        await lab.delivery.aclose()


# The request.


async def test_a_batch_is_one_compressed_json_request_that_the_receiver_takes(server: CaptureServer) -> None:
    events = [sample_event(0), sample_event(1, text="Ünïcödé \u2028 \U0001f600")]
    async with sink_to(server.url) as sink:
        assert await sink.send(events) == Delivered()
    [request] = server.requests
    assert (request.method, request.path, request.status) == ("POST", AI_PATH, 200)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["user-agent"] == f"posthog-llma-daemon/{__version__}"
    body = gzip.decompress(request.body)
    assert body == b'{"api_key":"%s","batch":[%s,%s]}' % (KEY.encode(), events[0].body, events[1].body)
    assert server.events == [json.loads(event.body) for event in events]
    assert server.violations == []


async def test_a_large_batch_arrives_whole(server: CaptureServer) -> None:
    events = [sample_event(number, text=f"{number} " * 20_000) for number in range(50)]
    async with sink_to(server.url) as sink:
        assert await sink.send(events) == Delivered()
    assert server.events == [json.loads(event.body) for event in events]


async def test_the_same_events_are_the_same_bytes(server: CaptureServer) -> None:
    async with sink_to(server.url) as sink:
        for _ in range(2):
            await sink.send([sample_event(0)])
    assert server.requests[0].body == server.requests[1].body
    # There is no time in the gzip header.
    assert server.requests[0].body[4:8] == bytes(4)


async def test_a_connection_is_used_again(server: CaptureServer) -> None:
    connections = set()
    async with sink_to(server.url) as sink:
        for number in range(3):
            await sink.send([sample_event(number)])
            connections |= {id(task) for task in server._connections}
    assert len(connections) == 1


async def test_a_host_may_have_a_path_and_a_slash(server: CaptureServer) -> None:
    async with sink_to(f"{server.url}/ingest/") as sink:
        await sink.send([sample_event(0)])
    assert server.requests[0].path == f"/ingest{AI_PATH}"


async def test_additional_headers_are_sent_but_cannot_change_the_encoding(server: CaptureServer) -> None:
    async with sink_to(server.url, headers={"X-Gateway": "token", "content-encoding": "br"}) as sink:
        assert await sink.send([sample_event(0)]) == Delivered()
    assert server.requests[0].headers["x-gateway"] == "token"
    assert server.requests[0].headers["content-encoding"] == "gzip"


async def test_without_the_fast_gzip_the_slow_one_does(server: CaptureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = importlib.util.spec_from_file_location("capture_without_isal", str(capture.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.gzip is gzip
    sink = module.CaptureSink(server.url, KEY)
    assert await sink.send([sample_event(0)]) == Delivered()
    await sink.aclose()


# What an answer means.


async def test_over_quota_is_delivered_and_reported(server: CaptureServer) -> None:
    outcome = await send_once(server, Accept(body=b'{"status":1,"quota_limited":["llm_events"]}'))
    assert outcome == Delivered(quota_limited=("llm_events",))


@pytest.mark.parametrize("status", [400, 413])
async def test_a_refused_request_is_rejected_with_the_receivers_words(server: CaptureServer, status: int) -> None:
    outcome = await send_once(server, Answer(status=status, body=b"AI event $ai_span is\n 9 bytes"))
    assert outcome == Rejected(reason=f"{status} AI event $ai_span is 9 bytes")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
async def test_a_failing_receiver_is_asked_again(server: CaptureServer, status: int) -> None:
    outcome = await send_once(server, Answer(status=status, headers=(("Retry-After", "17"),)))
    assert outcome == Retryable(reason=f"{status} Scripted", after=17.0)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "POSTHOG_API_KEY"),
        (402, "billing"),
        (403, "POSTHOG_HOST"),
        (405, "POSTHOG_HOST"),
        (407, "HTTPS_PROXY"),
        (410, "POSTHOG_HOST"),
        (415, "gzip"),
        (418, "POSTHOG_HOST"),
        (204, "POSTHOG_HOST"),
        (202, "POSTHOG_HOST"),
    ],
)
async def test_a_problem_that_only_a_person_can_fix_stops(server: CaptureServer, status: int, hint: str) -> None:
    outcome = await send_once(server, Answer(status=status))
    assert isinstance(outcome, Stopped)
    assert outcome.reason.startswith(str(status))
    assert hint in outcome.hint


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server: CaptureServer, status: int) -> None:
    location = f"{server.url}/elsewhere?token=abc"
    outcome = await send_once(server, Answer(status=status, headers=(("Location", location),)))
    assert isinstance(outcome, Stopped)
    assert outcome.reason == f"{status}, a redirect to http://127.0.0.1"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in to Airport WiFi</html>", b"", b"[]", b"1", b'{"ok":true}', b"\xff\xfe", b'{"status":1' * 9_000],
)
async def test_a_success_that_is_not_posthogs_stops(server: CaptureServer, body: bytes) -> None:
    outcome = await send_once(server, Answer(status=200, body=body))
    assert isinstance(outcome, Stopped)
    assert "captive portal" in outcome.hint


async def test_only_the_beginning_of_a_huge_answer_is_read(server: CaptureServer) -> None:
    outcome = await send_once(server, Answer(status=400, body=b"x" * 5_000_000))
    assert outcome == Rejected(reason="400 " + "x" * 200)


async def test_an_answer_without_end_is_left_off() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield b"x" * 10_000
            raise AssertionError("read on and on")

    transport = httpx.MockTransport(lambda _: httpx.Response(413, stream=Endless()))
    async with sink_to("https://us.i.posthog.com", transport=transport) as sink:
        assert isinstance(await sink.send([sample_event(0)]), Rejected)


async def test_the_text_of_a_refusal_loses_possible_content_and_the_key(server: CaptureServer) -> None:
    body = f'invalid type: string "the \\"secret\\" plan", for {KEY}, expected `deep secret` at line 1'.encode()
    outcome = await send_once(server, Answer(status=400, body=body))
    assert outcome == Rejected(reason="400 invalid type: string [...], for [key], expected [...] at line 1")


async def test_the_text_of_a_web_page_is_not_repeated(server: CaptureServer) -> None:
    outcome = await send_once(
        server, Answer(status=403, body=b"<h1>secret</h1>", headers=(("Content-Type", "text/html"),))
    )
    assert isinstance(outcome, Stopped)
    assert outcome.reason == "403 Scripted"


@pytest.mark.parametrize("behaviour", [Drop(), LoseAnswer()])
async def test_a_broken_connection_is_retryable(server: CaptureServer, behaviour: Behaviour) -> None:
    outcome = await send_once(server, behaviour)
    assert isinstance(outcome, Retryable)
    assert not outcome.timed_out


async def test_nobody_listening_is_retryable(server: CaptureServer) -> None:
    async with CaptureServer() as gone:
        url = gone.url
    async with sink_to(url) as sink:
        outcome = await sink.send([sample_event(0)])
    assert isinstance(outcome, Retryable)
    assert outcome.reason.startswith("ConnectError")
    assert server.requests == []


async def test_no_answer_in_time_is_a_timeout(server: CaptureServer) -> None:
    never = asyncio.Event()
    server.script(Hold(never))
    async with sink_to(server.url, timeout=httpx.Timeout(5.0, read=0.05)) as sink:
        outcome = await sink.send([sample_event(0)])
    assert outcome == Retryable(reason="no answer in time", timed_out=True)


def failing_with(error: Exception) -> httpx.AsyncBaseTransport:
    def fail(request: httpx.Request) -> httpx.Response:
        del request
        raise error

    return httpx.MockTransport(fail)


def transport_errors(base: type[Exception]) -> list[type[Exception]]:
    leaves = [leaf for each in base.__subclasses__() for leaf in transport_errors(each)]
    return leaves or [base]


@pytest.mark.parametrize("kind", [*transport_errors(httpx.TransportError), httpx.DecodingError])
async def test_everything_a_transport_raises_becomes_an_outcome(kind: type[Exception]) -> None:
    async with sink_to("https://us.i.posthog.com", transport=failing_with(kind("it broke"))) as sink:
        outcome = await sink.send([sample_event(0)])
    assert isinstance(outcome, Retryable)
    # A smaller batch helps only if this one was under way.
    assert outcome.timed_out == (kind in (httpx.ReadTimeout, httpx.WriteTimeout))


async def test_a_proxy_that_wants_a_password_stops() -> None:
    error = httpx.ProxyError("407 Proxy Authentication Required")
    async with sink_to("https://us.i.posthog.com", transport=failing_with(error)) as sink:
        outcome = await sink.send([sample_event(0)])
    assert isinstance(outcome, Stopped)
    assert "HTTPS_PROXY" in outcome.hint


# Whatever comes back is an outcome.


def head(status: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"HTTP/{version} {status}", *lines, "", "")).encode("latin-1")


async def test_json_without_bottom_is_not_posthogs(server: CaptureServer) -> None:
    for deep in (b"[" * 60_000, b'{"status":' * 6_000, b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"):
        for status in (200, 400, 401, 503):
            assert not isinstance(await send_once(server, Answer(status=status, body=deep)), Delivered)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("host:8080/login", "an address that cannot be read"),
        ("about:blank", "an address that cannot be read"),
        ("http://xn--a/", "http://xn--a"),
        ("http://portal:99999/login?user=hunter2", "http://portal"),
        ("http://[::1/", "an address that cannot be read"),
        ("http://ex\x01ample/\x7f", "an address that cannot be read"),
        ("//portal.example/login", "https://portal.example"),
        ("/login", "the same host"),
        ("", "the same host"),
        ("javascript:alert(1)", "an address that cannot be read"),
        ("http://user:hunter2@portal.example/", "http://portal.example"),
        ("http://" + "a" * 90_000, "an address that cannot be read"),
        ("http://portal..example/", "http://portal..example"),
        ("http://\xe9t\xe9/", "an address that cannot be read"),
    ],
)
async def test_wherever_a_redirect_leads_it_stops(server: CaptureServer, location: str, shown: str) -> None:
    outcome = await send_once(server, Raw(data=head("302 Found", f"Location: {location}", "Content-Length: 0")))
    if any(not character.isprintable() for character in location):
        assert isinstance(outcome, Retryable | Stopped)
        return
    assert isinstance(outcome, Stopped)
    assert outcome.reason == f"302, a redirect to {shown}"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (head("200 OK", version="1.0") + b'{"status":1}', Delivered),
        (head("200 OK", "Content-Length: 12", version="1.0") + b'{"status":1}', Delivered),
        (head("200 OK", "Transfer-Encoding: chunked") + b'c\r\n{"status":1}\r\n0\r\n\r\n', Delivered),
        (head("100 Continue") + head("200 OK", "Content-Length: 12") + b'{"status":1}', Delivered),
        (head("200 OK", "Content-Encoding: gzip", "Content-Length: 12") + b'{"status":1}', Retryable),
        (head("200 OK", "Content-Encoding: gzip") + gzip.compress(b'{"status":1}', mtime=0)[:15], (Stopped, Retryable)),
        (head("200 OK", "Content-Encoding: gzip") + gzip.compress(b'{"status":1}', mtime=0), Delivered),
        (head("200 OK", "Content-Encoding: Deflate") + zlib.compress(b'{"status":1}'), Delivered),
        (head("200 OK", "Content-Encoding: identity") + b'{"status":1}', Delivered),
        (head("200 OK", "Content-Encoding: br") + b'{"status":1}', Retryable),
        (head("200 OK", "Content-Encoding: gzip, gzip") + b'{"status":1}', Retryable),
        (head("401 No", "Content-Encoding: gzip", "Content-Length: 0"), Stopped),
        (head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n", Retryable),
        (head("200 OK", "Set-Cookie: " + "x" * 9_000, version="1.0") + b'{"status":1}', Delivered),
        (head("200 OK", *["Set-Cookie: a=b"] * 500) + b'{"status":1}', Delivered),
        (head("502 Bad", "Retry-After: -5", version="1.0"), Retryable),
        (head("429 Slow", "Retry-After: 1e400", "Content-Length: 0"), Retryable),
        (head("429 Slow", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", "Content-Length: 0"), Retryable),
        (head("429 Slow", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", "Content-Length: 0"), Retryable),
        (b"HTTP/1.1 200\r\n\r\n" + b'{"status":1}', Delivered),
        (b"HTTP/2.0 200 OK\r\n\r\n" + b'{"status":1}', Delivered),
        (b"HTTP/1.1 0200 OK\r\n\r\n" + b'{"status":1}', Retryable),
        (b"ICY 200 OK\r\n\r\n" + b'{"status":1}', Retryable),
        (head("200 OK", "Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n{", Retryable),
        (head("200 OK", "Content-Length: 99") + b"{", Retryable),
        (head("200 OK", "Content-Length: -1") + b"{", Retryable),
        (head("200 OK", "X-Long: " + "x" * 150_000), Retryable),
        (head("400 " + "x" * 9_000, "Content-Length: 0"), Rejected),
        (head("999 Who knows", "Content-Length: 0"), (Stopped, Retryable)),
        (head("101 Switching", "Upgrade: h2c"), (Stopped, Retryable)),
        (head("429 Slow", "Retry-After: " + "9" * 5_000, "Content-Length: 0"), Retryable),
        (head("503 Away", "Retry-After: Tue, 06 Jan 0001 00:00:00 +2359", "Content-Length: 0"), Retryable),
        (head("503 Away", "Retry-After: \xff\xfe", "Content-Length: 0"), Retryable),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Retryable),
        (b"", Retryable),
        (b"\x16\x03\x01\x00\x05", Retryable),
    ],
)
async def test_an_answer_that_breaks_the_protocol_is_an_outcome(
    server: CaptureServer, data: bytes, kind: type | tuple[type, ...]
) -> None:
    outcome = await send_once(server, Raw(data=data))
    assert isinstance(outcome, kind)


def bomb(times: int) -> bytes:
    """Megabytes of blanks before an answer, packed so and so often."""
    packed = b" " * 30_000_000 + b'{"status":1}'
    for _ in range(times):
        packed = gzip.compress(packed, mtime=0)
    return packed


@pytest.mark.parametrize(("packing", "times"), [("gzip", 1), ("gzip, gzip", 2), ("gzip", 2)])
async def test_a_bomb_is_not_unpacked(server: CaptureServer, packing: str, times: int) -> None:
    data = head("200 OK", f"Content-Encoding: {packing}") + bomb(times)
    tracemalloc.start()
    try:
        outcome = await send_once(server, Raw(data=data))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, Stopped | Retryable)
    assert most < 5_000_000


@settings(max_examples=150)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda status, lines, body: b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", body]),
            st.one_of(st.integers(0, 1200).map(lambda number: b"%d X" % number), st.binary(max_size=8)),
            st.lists(
                st.builds(
                    lambda name, value: name + b": " + value,
                    st.sampled_from(
                        [
                            b"Location",
                            b"Retry-After",
                            b"Content-Type",
                            b"Content-Encoding",
                            b"Transfer-Encoding",
                            b"Content-Length",
                            b"Set-Cookie",
                            b"Connection",
                        ]
                    ),
                    st.one_of(
                        st.sampled_from([b"gzip", b"deflate", b"chunked", b"application/json", b"http://xn--a/", b"5"]),
                        st.binary(max_size=20),
                    ),
                ),
                max_size=4,
            ),
            st.one_of(
                st.binary(max_size=60),
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
                    lambda inner: (
                        st.lists(inner, max_size=3)
                        | st.dictionaries(st.sampled_from(["status", "type", "code", "detail", "error"]), inner)
                    ),
                    max_leaves=8,
                ).map(lambda value: json.dumps(value).encode()),
            ),
        ),
    )
)
async def test_whatever_bytes_come_back_are_an_outcome_in_one_line(data: bytes) -> None:
    async with CaptureServer() as server:
        server.fault = lambda _: Raw(data=data)
        async with sink_to(server.url) as sink:
            outcome = await sink.send([sample_event(0)])
    if not isinstance(outcome, Delivered):
        assert outcome.reason
        assert outcome.reason.isprintable()
        assert len(outcome.reason) < 400


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nX: x", head("200 OK", "Content-Length: 99999") + b"x"])
async def test_an_answer_that_drips_is_bounded_as_a_whole(server: CaptureServer, data: bytes) -> None:
    server.script(Raw(data=data, drip=0.001))
    async with sink_to(server.url, timeout=httpx.Timeout(PATIENCE, read=0.2)) as sink:
        outcome = await sink.send([sample_event(0)])
    assert outcome == Retryable(reason="no answer in time", timed_out=True)


async def test_a_request_that_nobody_takes_is_bounded_as_a_whole() -> None:
    # A server that accepts a connection and reads nothing of a request that is larger than all buffers.
    ignored: list[asyncio.StreamWriter] = []

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ignored.append(writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # the transport of a socket has it

    noise = random.Random(1).randbytes(6_000_000).hex()
    listener = await asyncio.start_server(ignore, "127.0.0.1", 0)
    async with listener, sink_to(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", limit=0.2) as sink:
        outcome = await sink.send([sample_event(0, text=noise)])
        for writer in ignored:
            writer.transport.abort()
    assert outcome == Retryable(reason="no answer in time", timed_out=True)


# The reason is words.


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b'{"type": "authentication_error", "code": "invalid_api_key", "detail": "API key invalid", "attr": null}',
            "401 API key invalid (authentication_error, invalid_api_key)",
        ),
        (b'{"type":"validation_error","code":"required","detail":"This field is required.","attr":"api_key"}',
         "401 This field is required. (required, api_key)"),
        (b'{"error": "no such project"}', "401 no such project"),
        (b'{"error": {"message": "over quota", "type": "billing"}}', "401 over quota (billing)"),
        (b'{"errors": [{"title": "Forbidden", "code": "E17"}]}', "401 Forbidden (E17)"),
        (b'{"code": "blocked"}', "401 blocked"),
        (b'"go away"', "401 go away"),
        (b'{"detail": "invalid value: string \\"my secret plan\\", expected a number"}',
         "401 invalid value: string [...], expected a number"),
        (b"{\"detail\": \"can't read 'my secret plan'\"}", "401 can't read [...]"),
        (b'{"detail": {"deep": "x"}, "code": "my secret plan with words"}', "401 Scripted"),
        (b'{"my secret plan": 1}', "401 Scripted"),
        (b'{"detail": "cut of', "401 Scripted"),
        (b"[]", "401 Scripted"),
        (b'{"detail": "' + b"word " * 200 + b'"}', "401 " + ("word " * 200)[:200]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
async def test_an_error_in_json_becomes_words(
    server: CaptureServer, body: bytes, reason: str, kind: str | None
) -> None:
    headers = (("Content-Type", kind),) if kind else ()
    outcome = await send_once(server, Answer(status=401, body=body, headers=headers))
    assert isinstance(outcome, Stopped)
    assert outcome.reason == reason.strip()


async def test_the_key_is_in_no_reason_from_json(server: CaptureServer) -> None:
    body = json.dumps({"detail": f"the key {KEY} is unknown"}).encode()
    outcome = await send_once(server, Answer(status=400, body=body))
    assert outcome == Rejected(reason="400 the key [key] is unknown")


# Proxies.


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("http://proxy:99999", "host or port"),
        ("http://proxy:0", "host or port"),
        ("proxy:99999", "host or port"),
        ("http://", "host or port"),
        ("http://a..b:80", "host or port"),
        ("http://xn--a:80", "not valid"),
        ("http://pro xy:80", "host or port"),
        ("http://[::1:80", "not valid"),
        ("socks://proxy:80", "must begin"),
        ("proxy.example/path:80", None),
        (" http://proxy:3128 ", None),
        ("http://[::1]:3128", None),
    ],
)
def test_a_proxy_works_or_is_one_clear_line(proxy: str, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    if problem is None:
        CaptureSink("https://us.i.posthog.com", KEY)
        return
    with pytest.raises(SinkConfigError, match=problem):
        CaptureSink("https://us.i.posthog.com", KEY)


@settings(max_examples=150)
@given(value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30))
@example("http://[fe80::1%25eth0]:80")
async def test_no_value_of_a_proxy_variable_does_more_than_that(value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "NO_PROXY"):
            patch.setenv(name, value)
        with contextlib.suppress(SinkConfigError):
            await CaptureSink("https://127.0.0.1:1", KEY).aclose()


@pytest.mark.parametrize(
    "bypass",
    ["::1", "[::1]", "fd00::/8", "[fd00::]/8", "2001:db8::/32,10.0.0.0/8", "*", " * ", "a, b ,c", "[::1]:8080", ":",
     "/", "http://", "[", "10.0.0.0/99", "*.example.com", ",,"],
)  # fmt: skip
async def test_no_proxy_may_say_what_it_likes(
    server: CaptureServer, bypass: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", bypass)
    assert await send_once(server) == Delivered()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    CaptureSink("https://us.i.posthog.com", KEY)


@pytest.mark.parametrize(
    "host",
    ["http://h:99999", "http://h:0", "http://xn--a", "http://a..b", f"http://{'a' * 64}.example"],
)
def test_a_host_that_cannot_be_is_an_error_of_one_line(host: str) -> None:
    with pytest.raises(SinkConfigError, match="POSTHOG_HOST"):
        CaptureSink(host, KEY)


# The two paths.


async def test_without_an_ai_path_events_are_cut_to_the_other_and_sent_at_once(server: CaptureServer) -> None:
    server.ai_path = False
    large = sample_event(0, text="many words " * 100_000)
    assert BATCH_EVENT_LIMIT < len(large.body) < AI_EVENT_LIMIT
    async with lab_at(server.url) as lab:
        assert await lab.deliver(large, sample_event(1))
        assert lab.sink.event_limit == BATCH_EVENT_LIMIT
        assert lab.slept == []
        assert [one.event.cut for one in lab.settled] == [True, False]
    assert [(request.path, request.status) for request in server.requests] == [(AI_PATH, 404), (BATCH_PATH, 200)]
    assert [event["properties"]["$ai_input_tokens"] for event in server.events] == [0, 1]


async def test_the_ai_path_is_asked_for_again_after_a_day(server: CaptureServer) -> None:
    server.ai_path = False
    async with lab_at(server.url) as lab:
        assert await lab.deliver(sample_event(0))
        lab.now += DAY - 1
        assert await lab.deliver(sample_event(1))
        lab.now += 1
        assert lab.sink.event_limit == AI_EVENT_LIMIT
        assert await lab.deliver(sample_event(2))
        lab.now += DAY
        server.ai_path = True
        assert await lab.deliver(sample_event(3))
        assert lab.sink.event_limit == AI_EVENT_LIMIT
    paths = [request.path for request in server.requests]
    assert paths == [AI_PATH, BATCH_PATH, BATCH_PATH, AI_PATH, BATCH_PATH, AI_PATH]
    assert len(server.events) == 4


async def test_neither_path_stops(server: CaptureServer) -> None:
    server.script(Answer(status=404), Answer(status=404))
    async with lab_at(server.url) as lab:
        assert not await lab.deliver(sample_event(0))
        assert isinstance(lab.delivery.state, Stopped)
        assert lab.delivery.state.reason == f"404 on {AI_PATH} and on {BATCH_PATH}"
        assert lab.settled == []


# With the delivery.


async def assert_only_the_poison_is_lost(server: CaptureServer, poison: CaptureEvent) -> None:
    others = [sample_event(number) for number in range(99)]
    async with lab_at(server.url) as lab:
        assert await lab.deliver(*others[:61], poison, *others[61:])
        assert lab.uuids("delivered") == [event.uuid for event in others]
        assert lab.uuids("rejected") == [poison.uuid]
    assert [event["uuid"] for event in server.events] == [event.uuid for event in others]
    assert len(server.requests) <= 16


async def test_one_invalid_event_among_a_hundred_costs_only_itself(server: CaptureServer) -> None:
    await assert_only_the_poison_is_lost(server, sample_event(1000, distinct_id=""))


async def test_one_event_too_large_among_a_hundred_costs_only_itself(server: CaptureServer) -> None:
    # An installation with a lower limit than the one that events are cut to.
    server.fault = lambda request: (
        Answer(status=413, body=b"too large") if int(request.headers["content-length"]) > 50_000 else None
    )
    incompressible = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(40_000))
    await assert_only_the_poison_is_lost(server, sample_event(1000, text=incompressible))


async def test_a_receiver_that_refuses_everything_stops_after_twenty(server: CaptureServer) -> None:
    server.fault = lambda _: Answer(status=400, body=b"no")
    async with lab_at(server.url) as lab:
        assert not await lab.deliver(*(sample_event(number) for number in range(100)))
        assert isinstance(lab.delivery.state, Stopped)
        assert lab.settled == []
    assert server.events == []
    assert len(server.requests) < 60


async def test_a_malformed_key_stops_and_settles_nothing(server: CaptureServer) -> None:
    lab = Lab(server.url)
    sink = CaptureSink(server.url, "phx_personal")
    async with Delivery(sink, settle=lab.settle) as delivery:
        await delivery.put(sample_event(0))
        assert not await delivery.flush()
        assert isinstance(delivery.state, Stopped)
        assert delivery.state.reason == "401 API key is not valid: personal_api_key"
        assert "POSTHOG_API_KEY" in delivery.state.hint
    assert lab.settled == []
    await lab.delivery.aclose()


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7.0),
        ("3600", 300.0),
        ("1" + "0" * 400, 300.0),
        ("-7", 0.5),
        ("Tue, 06 Jan 2026 08:00:42 GMT", 42.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.5),
        ("soon", 0.5),
    ],
)
async def test_retry_after_is_honoured(server: CaptureServer, header: str, wait: float) -> None:
    server.script(Answer(status=429, headers=(("Retry-After", header),)))
    async with lab_at(server.url) as lab:
        assert await lab.deliver(sample_event(0))
        assert lab.slept == [wait]


async def test_a_lost_answer_is_followed_by_the_same_bytes(server: CaptureServer) -> None:
    server.script(LoseAnswer())
    async with lab_at(server.url) as lab:
        assert await lab.deliver(sample_event(0), sample_event(1))
        assert lab.uuids("delivered") == [sample_event(0).uuid, sample_event(1).uuid]
    assert server.requests[0].body == server.requests[1].body
    assert [len(times) for times in server.events_by_uuid.values()] == [2, 2]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_through_any_weather_every_event_arrives(server: CaptureServer, concurrency: int) -> None:
    server.fail_at_random(0.4, seed=concurrency)
    events = [sample_event(number) for number in range(200)]
    async with lab_at(server.url, concurrency=concurrency, count=5) as lab:
        assert await lab.deliver(*events)
        assert sorted(lab.uuids("delivered")) == sorted(event.uuid for event in events)
        assert lab.uuids("rejected") == []
    assert set(server.events_by_uuid) == {event.uuid for event in events}
    lost = {
        event["uuid"]
        for request in server.requests
        if request.status == 200 and not request.text
        for event in request.events
    }
    assert {uuid for uuid, times in server.events_by_uuid.items() if len(times) > 1} <= lost
    assert server.violations == []


async def test_closing_does_not_wait_for_an_answer(server: CaptureServer) -> None:
    never = asyncio.Event()
    server.script(Hold(never))
    async with lab_at(server.url) as lab:
        await lab.delivery.put(sample_event(0))
        lab.delivery.start()
        await server.wait_requests(1)
        await lab.delivery.aclose()
        assert lab.delivery.queued_events == 1
        assert lab.settled == []


# The key, and invalid configuration.


async def test_the_key_is_in_no_log_reason_or_repr(server: CaptureServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    echo = KEY.encode()
    server.script(
        Answer(status=503, body=echo),
        Answer(status=400, body=echo),
        Answer(status=302, headers=(("Location", f"http://elsewhere/{KEY}"),)),
    )
    with capture_logs() as logs:
        async with lab_at(server.url) as lab:
            assert not await lab.deliver(sample_event(0), sample_event(1))
            said = [repr(lab.sink), repr(lab.delivery.state), repr(lab.delivery.stats), repr(lab.settled)]
    assert KEY in str(gzip.decompress(server.requests[0].body))
    assert {"delivery_failing", "delivery_stopped"} <= {line["event"] for line in logs}
    assert KEY not in "".join([*said, repr(logs), caplog.text])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "us.i.posthog.com",
        "ftp://us.i.posthog.com",
        "https://",
        "https://u:hunter2@h",
        "https://h?a=hunter2",
        "https://h/#hunter2",
        "http://[::1",
        "https://h:hunter2",
        "https://h\nh",
    ],
)
def test_a_host_that_is_no_plain_url_is_an_error_of_one_line(host: str) -> None:
    with pytest.raises(SinkConfigError) as caught:
        CaptureSink(host, KEY)
    text = str(caught.value)
    assert "POSTHOG_HOST" in text
    assert "\n" not in text
    assert "hunter2" not in text


@pytest.mark.parametrize("key", ["", "  \n"])
def test_an_empty_key_is_an_error(key: str) -> None:
    with pytest.raises(SinkConfigError, match="POSTHOG_API_KEY"):
        CaptureSink("https://us.i.posthog.com", key)


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-C: hunter2"}, {"X-A": "hünter2"}, {"": "hunter2"}])
def test_headers_that_cannot_be_sent_are_an_error(headers: dict[str, str]) -> None:
    with pytest.raises(SinkConfigError) as caught:
        CaptureSink("https://us.i.posthog.com", KEY, headers=headers)
    assert "nter2" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["socks4://user:hunter2@proxy:1080", "gopher://user:hunter2@proxy", "http://user:hunter2@proxy:port"]
)
def test_a_proxy_that_cannot_be_used_is_an_error_of_one_line(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SinkConfigError) as caught:
        CaptureSink("https://us.i.posthog.com", KEY)
    text = str(caught.value)
    assert "HTTPS_PROXY" in text
    assert "\n" not in text
    assert "hunter2" not in text


# The test server itself: the tests prove something only if it refuses what PostHog refuses.


def spoiled(**changes: Any) -> Callable[[], CaptureEvent]:
    return lambda: sample_event(0, **changes)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (spoiled(event=""), "empty event name"),
        (spoiled(event="$pageview"), "not an AI event"),
        (spoiled(distinct_id=""), "distinct_id"),
        (spoiled(uuid="1"), "uuid"),
        (spoiled(timestamp="2026-01-02T03:04:05Z"), "timestamp"),
        (spoiled(timestamp="2026-13-02T03:04:05.000Z"), "timestamp"),
        (spoiled(properties=None), "properties"),
        (spoiled(properties={"a": "\x00"}), "NUL"),
        (spoiled(properties={"a": float("nan")}), "parse"),
    ],
)
async def test_the_server_refuses_what_posthog_refuses(
    server: CaptureServer, event: Callable[[], CaptureEvent], words: str
) -> None:
    async with sink_to(server.url) as sink:
        outcome = await sink.send([sample_event(1), event()])
    assert isinstance(outcome, Rejected)
    assert words in outcome.reason
    assert server.events == []


async def test_the_server_refuses_text_that_is_no_text(server: CaptureServer) -> None:
    good = sample_event(0)
    for spoil in (b"\\ud800", b"\xff", b"\\u0000"):
        bad = CaptureEvent(
            name=good.name, uuid=good.uuid, identity=good.identity, body=good.body.replace(b"hello", spoil)
        )
        async with sink_to(server.url) as sink:
            assert isinstance(await sink.send([bad]), Rejected)
    assert server.events == []


async def test_the_server_names_an_event_that_is_too_large(server: CaptureServer) -> None:
    large = sample_event(0, text="x" * 8 * 1024 * 1024)
    async with sink_to(server.url) as sink:
        outcome = await sink.send([large])
    assert isinstance(outcome, Rejected)
    assert large.uuid in outcome.reason


async def test_the_server_notes_a_uuid_that_stands_twice(server: CaptureServer) -> None:
    async with sink_to(server.url) as sink:
        assert await sink.send([sample_event(0), sample_event(0)]) == Delivered()
    assert server.violations == ["a uuid stands twice in one request"]


async def test_the_server_wants_compressed_json_without_sent_at(server: CaptureServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        plain = {"api_key": KEY, "batch": [json.loads(sample_event(0).body)]}
        assert (await client.post(AI_PATH, json=plain)).status_code == 400
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        for payload, status in (
            (plain | {"sent_at": "2026-01-02T03:04:05.678Z"}, 400),
            (plain | {"batch": []}, 400),
            ({"batch": plain["batch"]}, 401),
            (plain, 200),
        ):
            body = gzip.compress(json.dumps(payload).encode())
            assert (await client.post(AI_PATH, content=body, headers=headers)).status_code == status
        assert (await client.get(BATCH_PATH)).status_code == 405
        assert (await client.post("/other/", content=b"")).status_code == 404
    assert len(server.events) == 1


async def test_the_server_is_a_process_too(tmp_path: Path) -> None:
    record = tmp_path / "accepted.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.capture_server", "--record", str(record), "--no-ai-path"),
        cwd=Path(__file__).parents[4],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with lab_at(f"http://127.0.0.1:{port}") as lab:
            assert await lab.deliver(sample_event(0), sample_event(1))
        lines = record.read_bytes().splitlines()
    finally:
        process.kill()
        await process.communicate()
    assert [json.loads(line)["uuid"] for line in lines] == [sample_event(0).uuid, sample_event(1).uuid]
