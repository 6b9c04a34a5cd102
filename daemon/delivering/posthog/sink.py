"""CaptureSink sends batches to PostHog's capture endpoint over HTTP.

Batches go to the AI path, which accepts events of up to 8 MiB. An installation without that path answers 404. The sink
then uses `/batch/`, with its smaller limit, for a day before it tries the AI path again.
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
from daemon.system.messages import excerpt
from llma_core import __version__
from llma_core.events import AI_EVENT_LIMIT, BATCH_EVENT_LIMIT, CaptureEvent

try:
    from isal import igzip as gzip
except ImportError:  # there is no wheel for this machine; the standard library writes the same format, only slower
    import gzip  # type: ignore[no-redef]

__all__ = ["AI_PATH", "BATCH_PATH", "DEFAULT_TIMEOUT", "CaptureSink"]

AI_PATH = "/i/v0/ai/batch/"
BATCH_PATH = "/batch/"

DEFAULT_TIMEOUT = httpx.Timeout(60.0, connect=10.0)

# Seconds to use the other path before the sink tries the AI path again.
AI_PATH_PAUSE = 86_400.0

# Capture answers with a few dozen bytes. The sink does not read more than this.
MAX_ANSWER_BYTES = 65_536
MAX_REASON_CHARS = 200

# A body up to this size is compressed in well under a millisecond, which is less than a thread would cost.
THREAD_BYTES = 65_536

# Quoted text may come from an event: parsers repeat the value that they could not read.
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)|`[^`]*(?:`|$)', re.DOTALL)

WRONG_HOST = "check POSTHOG_HOST: it must be PostHog's ingestion host"
HINTS = {
    401: "check POSTHOG_API_KEY: it must be the project's API key, which starts with phc_",
    402: "check the project's billing limits in PostHog",
    403: "check POSTHOG_HOST, and any proxy or firewall in between: one of them forbids the request",
    404: WRONG_HOST,
    407: "check HTTPS_PROXY: the proxy wants a user name and password",
    415: "check POSTHOG_HOST: the server there does not accept JSON compressed with gzip",
}


class CaptureSink:
    """Sends batches to one PostHog project. One call of `send` is one request, which follows no redirect.

    TLS is verified against the system's trust store. Proxies come from the environment, as httpx reads it.

    Args:
        host: URL of PostHog's ingestion host, such as `https://us.i.posthog.com`. It may have a path.
        key: the project's API key. It is only ever in the body of a request, never in a message or a repr.
        headers: additional headers for each request.
        transport: an httpx transport to use instead of the network.
        timeout: for connecting, writing and reading.
        clock: returns the time in seconds since the epoch.

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
        """The largest event body, in bytes, that the current path accepts."""
        return AI_EVENT_LIMIT if self._path == AI_PATH else BATCH_EVENT_LIMIT

    @property
    def _path(self) -> str:
        return AI_PATH if self._clock() >= self._ai_path_from else BATCH_PATH

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Send *events* in one request.

        Raises:
            RuntimeError: the sink is closed.
        """
        if self._client.is_closed:
            raise RuntimeError("the sink is closed")
        if not events:
            return Delivered()
        path = self._path
        size = sum(len(event.body) for event in events)
        body = await asyncio.to_thread(self._encode, events) if size > THREAD_BYTES else self._encode(events)
        # Only here do the errors of httpx become outcomes.
        try:
            async with aclosing(await self._client.send(self._request(path, body), stream=True)) as response:
                async with asyncio.timeout(self._client.timeout.read):
                    text = await _read_answer(response)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            # Nothing was sent, so a smaller batch would not help.
            return Retryable(reason="no connection in time")
        except (httpx.TimeoutException, TimeoutError) as error:
            return Retryable(reason=f"no answer in time ({type(error).__name__})", timed_out=True)
        except (httpx.TransportError, httpx.DecodingError) as error:
            # httpx does not treat a proxy's answer to CONNECT as a response.
            if isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
                return Stopped(reason="the proxy answered 407", hint=HINTS[407])
            return Retryable(reason=self._excerpt(": ".join(filter(None, (type(error).__name__, str(error))))))
        return self._judge(path, response, text)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        await self._client.aclose()

    def _request(self, path: str, body: bytes) -> httpx.Request:
        # The client would build the same request, but parse the URL each time.
        extensions = {"timeout": self._client.timeout.as_dict()}
        return httpx.Request(
            "POST", self._urls[path], headers=self._client.headers, content=body, extensions=extensions
        )

    def _encode(self, events: Sequence[CaptureEvent]) -> bytes:
        # Without a time in the gzip header, the same events always give the same bytes.
        body = b"".join((self._prefix, b",".join([event.body for event in events]), b"]}"))
        compressed: bytes = gzip.compress(body, 1, mtime=0)
        return compressed

    def _judge(self, path: str, response: httpx.Response, text: str) -> AttemptOutcome:
        """Turn an answer into an outcome."""
        status = response.status_code
        if status == httpx.codes.OK:
            return _judge_success(text)
        if status == httpx.codes.NOT_FOUND and path == AI_PATH:
            self._ai_path_from = self._clock() + AI_PATH_PAUSE
            return Retryable(reason=f"404 on {AI_PATH}", immediate=True)
        explanation = self._explanation(response, text)
        reason = f"{status} {explanation or response.reason_phrase}".strip()
        if status in (400, 413):
            return Rejected(reason=reason)
        if status in (408, 429) or response.is_server_error:
            return Retryable(reason=reason, after=parse_retry_after(response.headers.get("Retry-After"), self._clock()))
        if status == httpx.codes.NOT_FOUND:
            reason = f"404 on {AI_PATH} and on {BATCH_PATH}"
        elif response.is_redirect:
            reason = f"{status}, a redirect to {_origin(response.headers.get('Location'))}"
        return Stopped(reason=reason, hint=HINTS.get(status, WRONG_HOST))

    def _explanation(self, response: httpx.Response, text: str) -> str:
        """Return the text of a refusal, without anything that may be content; empty if the answer is not plain text."""
        is_plain = response.headers.get("Content-Type", "text/plain").startswith("text/plain")
        return self._excerpt(QUOTED.sub("[...]", text)) if is_plain and response.is_client_error else ""

    def _excerpt(self, text: str) -> str:
        """Return at most MAX_REASON_CHARS of *text* as one printable line, without the key."""
        return excerpt(text.replace(self._key, "[key]"), MAX_REASON_CHARS)


def _checked_host(host: str) -> str:
    try:
        url = httpx.URL(host.strip())
    except httpx.InvalidURL:
        # The error is not repeated: it quotes parts of the URL, and they may belong to a password.
        raise SinkConfigError("POSTHOG_HOST is not a URL: set one such as https://us.i.posthog.com") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise SinkConfigError(
            "POSTHOG_HOST must be http:// or https:// and a host, without user, query or fragment: "
            "set one such as https://us.i.posthog.com"
        )
    return str(url).rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> httpx.Headers:
    for name, value in headers.items():
        if not (name and value.isascii() and name.isascii() and (name + value).isprintable()):
            # The value is not repeated: a gateway's headers contain credentials.
            raise SinkConfigError(f"the header {name!r} cannot be sent: use printable ASCII only")
    return httpx.Headers(
        {
            "User-Agent": f"posthog-llma-daemon/{__version__}",
            # Answers are tiny, and an answer that is not compressed cannot expand into something huge.
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
        # The error is not repeated: it quotes parts of the URL, and they may belong to a password.
        problem = "its URL is not valid"
    except (ValueError, ImportError) as error:
        # These name the URL with its password masked, or the missing package.
        problem = str(error).split(". ")[0]
    raise SinkConfigError(f"cannot use the proxy from the environment ({problem}): check HTTPS_PROXY and ALL_PROXY")


async def _read_answer(response: httpx.Response) -> str:
    """Read at most MAX_ANSWER_BYTES of the body."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body[:MAX_ANSWER_BYTES]).decode("utf-8", "replace")


def _judge_success(text: str) -> AttemptOutcome:
    """Turn a 200 into an outcome: it may come from a captive portal, a proxy or another server instead of PostHog."""
    try:
        answer = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        answer = {}
    if "status" not in answer:
        return Stopped(
            reason="200 with a body that is not PostHog's",
            hint="check POSTHOG_HOST, and whether a proxy or a captive portal answers instead",
        )
    limited = answer.get("quota_limited")
    names = limited if isinstance(limited, list) else []
    return Delivered(quota_limited=tuple(str(name)[:40] for name in names[:10]))


def _origin(location: str | None) -> str:
    """Return scheme and host of a URL, for messages: its path, query and password are left out."""
    try:
        url = httpx.URL(location or "")
    except httpx.InvalidURL:
        return "an address that cannot be read"
    return f"{url.scheme}://{url.host}" if url.scheme and url.host else "the same host"
