"""CaptureSink: PostHog's capture endpoint over HTTP.

Batches go to the AI path, which takes events of 8 MiB. An installation without it answers 404: then `/batch/` is used
for a day, with its smaller limit, before the AI path is asked again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import httpx
import msgspec
import truststore

from daemon.delivering.retry import parse_retry_after
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, SinkConfigError, Stopped
from llma_core import __version__
from llma_core.events import AI_EVENT_LIMIT, BATCH_EVENT_LIMIT, CaptureEvent

try:
    from isal import igzip as gzip
except ImportError:  # no wheel for this machine: the same format, only slower
    import gzip  # type: ignore[no-redef]

__all__ = ["AI_PATH", "BATCH_PATH", "DEFAULT_TIMEOUT", "CaptureSink"]

AI_PATH = "/i/v0/ai/batch/"
BATCH_PATH = "/batch/"

DEFAULT_TIMEOUT = httpx.Timeout(60.0, connect=10.0)

# Seconds until an installation that had no AI path is asked for it again.
AI_PATH_PAUSE = 86_400.0

# Answers of capture are a few dozen bytes; whatever is larger is not read.
MAX_ANSWER_BYTES = 65_536
MAX_REASON_CHARS = 200

# Bodies up to this size are compressed in well under a millisecond: less than the way to a thread and back.
THREAD_BYTES = 65_536

# Text in quotes may be what an event held: parsers name the value they stumbled over.
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)|`[^`]*(?:`|$)', re.DOTALL)

WRONG_HOST = "check POSTHOG_HOST: it must be a PostHog ingestion host"
HINTS = {
    401: "check POSTHOG_API_KEY: it must be the project's API key, which begins with phc_",
    402: "check the project's billing limits in PostHog",
    403: "check POSTHOG_HOST, and what stands between this machine and it: something forbids the request",
    404: WRONG_HOST,
    407: "check HTTPS_PROXY: the proxy asks for a user and password",
    415: "check POSTHOG_HOST: what answers there does not take JSON compressed with gzip",
}


class CaptureSink:
    """Sends batches to one PostHog project. One call of `send` is one request: no retries, no redirects.

    TLS is verified against the system's trust store; proxies come from the environment as httpx reads it.

    Args:
        host: where PostHog's capture answers, such as `https://us.i.posthog.com`; it may have a path.
        key: the project's API key. It travels in the request's body only, and is in no message or repr.
        headers: further headers for each request.
        transport: an httpx transport to use instead of the network.
        timeout: of connecting, writing and reading.
        clock: seconds since the epoch.

    Raises:
        SinkConfigError: *host* is not such a URL, the key is empty, or a proxy or header cannot be used.
    """

    def __init__(
        self,
        host: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: httpx.Timeout = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not key.strip():
            raise SinkConfigError("the project API key is empty: set POSTHOG_API_KEY")
        self._host = _checked_host(host)
        self._urls = {path: httpx.URL(self._host + path) for path in (AI_PATH, BATCH_PATH)}
        self._key = key.strip()
        self._prefix = b'{"api_key":' + msgspec.json.encode(self._key) + b',"batch":['
        self._clock = clock
        self._ai_path_from = 0.0
        self._client = _build_client(_checked_headers(headers or {}), transport, timeout)

    def __repr__(self) -> str:
        return f"CaptureSink(host={self._host!r})"

    @property
    def event_limit(self) -> int:
        """Largest event body that the path in use takes, in bytes."""
        return AI_EVENT_LIMIT if self._path == AI_PATH else BATCH_EVENT_LIMIT

    @property
    def _path(self) -> str:
        return AI_PATH if self._clock() >= self._ai_path_from else BATCH_PATH

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Try once to hand *events*, at least one, over in one request."""
        path = self._path
        size = sum(len(event.body) for event in events)
        body = await asyncio.to_thread(self._encode, events) if size > THREAD_BYTES else self._encode(events)
        # The one place where what httpx raises becomes an outcome.
        try:
            async with aclosing(await self._client.send(self._request(path, body), stream=True)) as response:
                async with asyncio.timeout(self._client.timeout.read):
                    text = await _read_answer(response)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            # Nothing was sent, so a smaller batch would fare no better.
            return Retryable(reason="no connection in time")
        except (httpx.TimeoutException, TimeoutError) as error:
            return Retryable(reason=f"no answer in time ({type(error).__name__})", timed_out=True)
        except (httpx.TransportError, httpx.DecodingError) as error:
            # The answer of a proxy to CONNECT is not a response to httpx.
            if isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
                return Stopped(reason="the proxy answered 407", hint=HINTS[407])
            return Retryable(reason=self._plain(f"{type(error).__name__}: {error}"))
        return self._judge(path, response, text)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        await self._client.aclose()

    def _request(self, path: str, body: bytes) -> httpx.Request:
        # As the client would build it, without reading the URL anew each time.
        extensions = {"timeout": self._client.timeout.as_dict()}
        return httpx.Request(
            "POST", self._urls[path], headers=self._client.headers, content=body, extensions=extensions
        )

    def _encode(self, events: Sequence[CaptureEvent]) -> bytes:
        # Without a time in the gzip header the same events are the same bytes, however often they are sent.
        body = b"".join((self._prefix, b",".join([event.body for event in events]), b"]}"))
        compressed: bytes = gzip.compress(body, 1, mtime=0)
        return compressed

    def _judge(self, path: str, response: httpx.Response, text: str) -> AttemptOutcome:
        """Say what an answer means."""
        status = response.status_code
        if status == httpx.codes.OK:
            return _judge_success(text)
        if status == httpx.codes.NOT_FOUND and path == AI_PATH:
            self._ai_path_from = self._clock() + AI_PATH_PAUSE
            return Retryable(reason=f"404 on {AI_PATH}", immediate=True)
        words = self._words(response, text)
        reason = f"{status} {words or response.reason_phrase}".strip()
        if status in (400, 413):
            return Rejected(reason=reason)
        if status in (408, 429) or response.is_server_error:
            return Retryable(reason=reason, after=parse_retry_after(response.headers.get("Retry-After"), self._clock()))
        if status == httpx.codes.NOT_FOUND:
            reason = f"404 on {AI_PATH} and on {BATCH_PATH}"
        elif response.is_redirect:
            reason = f"{status}, a redirect to {_origin(response.headers.get('Location'))}"
        return Stopped(reason=reason, hint=HINTS.get(status, WRONG_HOST))

    def _words(self, response: httpx.Response, text: str) -> str:
        """Return what a refusal says in plain text, without what may be content; empty where it says nothing so."""
        plain = response.headers.get("Content-Type", "text/plain").startswith("text/plain")
        return self._plain(QUOTED.sub("[...]", text)) if plain and response.is_client_error else ""

    def _plain(self, text: str) -> str:
        """One line of at most MAX_REASON_CHARS printable characters, without the key."""
        line = " ".join(text.replace(self._key, "[key]").split())
        return "".join(character for character in line if character.isprintable())[:MAX_REASON_CHARS]


def _checked_host(host: str) -> str:
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL:
        # What it says quotes parts of the URL, which may be those of a password.
        raise SinkConfigError("POSTHOG_HOST is not a URL: give one like https://us.i.posthog.com") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise SinkConfigError(
            "POSTHOG_HOST must be http:// or https:// and a host, without user, query or fragment: "
            "give one like https://us.i.posthog.com"
        )
    return str(url).rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> httpx.Headers:
    for name, value in headers.items():
        if not (name and value.isascii() and name.isascii() and (name + value).isprintable()):
            # The value is not repeated: headers of a gateway carry credentials.
            raise SinkConfigError(f"the header {name!r} cannot be sent: use printable ASCII only")
    return httpx.Headers(
        {
            "User-Agent": f"posthog-llma-daemon/{__version__}",
            # Answers are tiny; what is not compressed cannot unfold into something huge.
            "Accept-Encoding": "identity",
            **headers,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
    )


def _build_client(
    headers: httpx.Headers, transport: httpx.AsyncBaseTransport | None, timeout: httpx.Timeout
) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            headers=headers,
            transport=transport,
            verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if transport is None else True,
            timeout=timeout,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4, keepalive_expiry=30.0),
            follow_redirects=False,
        )
    except httpx.InvalidURL:
        # What it says quotes parts of the URL, which may be those of a password.
        words = "its URL is not valid"
    except (ValueError, ImportError) as error:
        # These name the URL with its password masked, or the package that is missing.
        words = str(error).split(". ")[0]
    raise SinkConfigError(f"cannot use the proxy of the environment ({words}): check HTTPS_PROXY and ALL_PROXY")


async def _read_answer(response: httpx.Response) -> str:
    """Read at most MAX_ANSWER_BYTES of the body."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body[:MAX_ANSWER_BYTES]).decode("utf-8", "replace")


def _judge_success(text: str) -> AttemptOutcome:
    """Tell PostHog's 200 from that of a captive portal, a proxy or some other server."""
    try:
        answer = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        answer = {}
    if "status" not in answer:
        return Stopped(
            reason="200 with a body that is not PostHog's",
            hint="check POSTHOG_HOST, and whether a proxy or a captive portal answers in its place",
        )
    limited = answer.get("quota_limited")
    names = limited if isinstance(limited, list) else []
    return Delivered(quota_limited=tuple(str(name)[:40] for name in names[:10]))


def _origin(location: str | None) -> str:
    """Scheme and host of a URL, for messages: paths, queries and passwords stay out."""
    try:
        url = httpx.URL(location or "")
    except httpx.InvalidURL:
        return "somewhere"
    return f"{url.scheme}://{url.host}" if url.scheme and url.host else "somewhere on the same host"
