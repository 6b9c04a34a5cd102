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
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import truststore

from daemon.delivering.posthog.answer import read_answer
from daemon.delivering.posthog.proxy import ProxyUnusableError, can_connect, proxy_url
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

# Seconds that a request and its answer may take in all. The timeouts bound each step, and a step may be one byte.
# Within this 20 MB go through a connection of 200 kbit/s. It is below `ATTEMPT_SECONDS` of the delivery.
SEND_SECONDS = 840.0

# Seconds to use the other path before the sink tries the AI path again.
AI_PATH_PAUSE = 86_400.0

MAX_REASON_CHARS = 200

# A body up to this size is compressed in well under a millisecond, which is less than a thread would cost.
THREAD_BYTES = 65_536

# Quoted text may come from an event: parsers repeat the value that they could not read. An apostrophe is no quote.
QUOTED = re.compile(r"""\"(?:[^"\\]|\\.)*(?:"|$)|`[^`]*(?:`|$)|(?<!\w)'(?:[^'\\]|\\.|'(?=\w))*(?:'|$)""", re.DOTALL)

# Where errors in JSON have their message, the most telling key first; and their names, a name being no sentence.
MESSAGE_KEYS = ("detail", "message", "error", "errors", "title", "reason", "description", "error_description")
NAME_KEYS = ("type", "code", "attr")
NAME = re.compile(r"[A-Za-z_$][\w.$-]{0,59}", re.ASCII)

ORIGIN = re.compile(r"https?://[\w.:-]{1,100}", re.ASCII)

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
        timeout: for connecting, for each step of writing, and for the whole answer.
        limit: seconds for a request and its answer in all.
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
        limit: float = SEND_SECONDS,
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
        self._headers = _checked_headers(headers or {})
        self._timeout = timeout
        self._limit = limit
        self._transport = transport or _build_transport(self._host)
        self._closed = False

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
        if self._closed:
            raise RuntimeError("the sink is closed")
        if not events:
            return Delivered()
        path = self._path
        size = sum(len(event.body) for event in events)
        body = await asyncio.to_thread(self._encode, events) if size > THREAD_BYTES else self._encode(events)
        # Only here do errors become outcomes.
        try:
            response, text = await self._exchange(path, body)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            # Nothing was sent, so a smaller batch would not help.
            return Retryable(reason="no connection in time")
        except (httpx.TimeoutException, TimeoutError):
            return Retryable(reason="no answer in time", timed_out=True)
        except (httpx.TransportError, httpx.DecodingError) as error:
            # httpx does not treat a proxy's answer to CONNECT as a response.
            if isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
                return Stopped(reason="the proxy answered 407", hint=HINTS[407])
            return Retryable(reason=self._excerpt(": ".join(filter(None, (type(error).__name__, str(error))))))
        except Exception as error:  # noqa: BLE001 -- whatever an answer does to the HTTP libraries is an outcome
            # The text of an error that nobody foresaw may quote anything.
            return Retryable(reason=f"the request failed ({type(error).__name__})")
        return self._judge(path, response, text)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._closed = True
        await self._transport.aclose()

    async def _exchange(self, path: str, body: bytes) -> tuple[httpx.Response, str]:
        """Send *body*, and return the answer and its text.

        The request goes to the transport without a client of httpx in between. A client would look at where a redirect
        leads, fail on some addresses, and keep the cookies of whoever answers.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limit) as deadline:
            latest = loop.time() + self._limit

            async def trace(step: str, _: Mapping[str, Any]) -> None:
                # The server may answer before it has everything. Then sending fails, and the answer is read anyway.
                sent = step.endswith((".send_request_body.complete", ".send_request_body.failed"))
                if sent and not deadline.expired():
                    deadline.reschedule(min(latest, loop.time() + (self._timeout.read or self._limit)))

            request = httpx.Request(
                "POST",
                self._urls[path],
                headers=self._headers,
                content=body,
                extensions={"timeout": self._timeout.as_dict(), "trace": trace},
            )
            async with aclosing(await self._transport.handle_async_request(request)) as response:
                return response, await read_answer(response)

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
        reason = f"{status} {explanation or self._excerpt(response.reason_phrase)}".strip()
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
        """Return why a request failed, in the answer's words without anything that may be content; empty without any.

        PostHog answers with plain text, or with an object of JSON such as
        `{"type": "authentication_error", "code": "invalid_api_key", "detail": "API key invalid", "attr": null}`.
        """
        answer = _decode(text)
        if answer is not None:
            words = _words(answer)
        else:
            is_plain = response.headers.get("Content-Type", "text/plain").lower().startswith("text/plain")
            # What looks like JSON or a web page and is none says nothing.
            says = is_plain and response.is_client_error and not text.lstrip().startswith(("{", "[", "<"))
            words = text if says else ""
        return self._excerpt(QUOTED.sub("[...]", words))

    def _excerpt(self, text: str) -> str:
        """Return at most MAX_REASON_CHARS of *text* as one printable line, without the key."""
        return excerpt(text.replace(self._key, "[key]"), MAX_REASON_CHARS)


def _checked_host(host: str) -> str:
    try:
        url = httpx.URL(host.strip())
        usable = not url.host or can_connect(url)
    except (httpx.InvalidURL, ValueError):
        # The error is not repeated: it quotes parts of the URL, and they may belong to a password.
        raise SinkConfigError("POSTHOG_HOST is not a URL: set one such as https://us.i.posthog.com") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise SinkConfigError(
            "POSTHOG_HOST must be http:// or https:// and a host, without user, query or fragment: "
            "set one such as https://us.i.posthog.com"
        )
    if not usable:
        raise SinkConfigError(
            "POSTHOG_HOST has a host or a port that cannot be: set one such as https://us.i.posthog.com"
        )
    return str(url).rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> httpx.Headers:
    for name, value in headers.items():
        if not (name and value.isascii() and name.isascii() and (name + value).isprintable()):
            # The value is not repeated: a gateway's headers contain credentials.
            raise SinkConfigError(f"the header {name!r} cannot be sent: use printable ASCII only")
    return httpx.Headers(
        {
            "Accept": "*/*",
            "User-Agent": f"posthog-llma-daemon/{__version__}",
            # Answers are tiny, and an answer that is not compressed cannot expand into something huge.
            "Accept-Encoding": "identity",
            **headers,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
    )


def _build_transport(host: str) -> httpx.AsyncHTTPTransport:
    try:
        proxy = proxy_url(host)
        return httpx.AsyncHTTPTransport(
            verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4, keepalive_expiry=30.0),
            proxy=httpx.Proxy(proxy) if proxy is not None else None,
        )
    except ProxyUnusableError as error:
        raise SinkConfigError(str(error)) from None
    except (ValueError, ImportError) as error:
        # These name the URL with its password masked, or the missing package.
        problem = str(error).split(". ")[0]
    raise SinkConfigError(f"cannot use the proxy from the environment ({problem}): check HTTPS_PROXY and ALL_PROXY")


def _judge_success(text: str) -> AttemptOutcome:
    """Turn a 200 into an outcome: it may come from a captive portal, a proxy or another server instead of PostHog."""
    answer = _decode(text)
    if not isinstance(answer, dict) or "status" not in answer:
        return Stopped(
            reason="200 with a body that is not PostHog's",
            hint="check POSTHOG_HOST, and whether a proxy or a captive portal answers instead",
        )
    limited = answer.get("quota_limited")
    names = limited if isinstance(limited, list) else []
    return Delivered(quota_limited=tuple(str(name)[:40] for name in names[:10]))


def _decode(text: str) -> object:
    """Return the value of a JSON text; None if it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _words(answer: object, depth: int = 3) -> str:
    """Return what an error in JSON says: its message, and in parentheses its code or type and what it is about."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):
        return _words(answer[0], depth - 1) if answer and depth else ""
    if not isinstance(answer, dict) or not depth:
        return ""
    message = next((words for key in MESSAGE_KEYS if (words := _words(answer.get(key), depth - 1))), "")
    names = [name for key in NAME_KEYS if isinstance(name := answer.get(key), str) and NAME.fullmatch(name)]
    # A code says more than the type that it belongs to.
    names = [name for name in dict.fromkeys(names[-2:]) if name != message]
    if not message:
        return ", ".join(names)
    return f"{message} ({', '.join(names)})" if names else message


def _origin(location: str | None) -> str:
    """Return scheme and host of a URL, for messages: its path, query and password are left out."""
    try:
        url = urlsplit(location or "")
        scheme, host = url.scheme, url.hostname
    except ValueError:
        return "an address that cannot be read"
    if not scheme and not host:
        return "the same host"
    origin = f"{scheme or 'https'}://{host}"
    return origin if host and ORIGIN.fullmatch(origin) else "an address that cannot be read"
