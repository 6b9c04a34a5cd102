"""Checks of a PostHog host that send no event: whether it knows the key, whether capture answers, what time it has."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import httpx
import msgspec
import truststore

from daemon.delivering.posthog.answer import read_answer
from daemon.delivering.posthog.proxy import ProxyUnusableError, proxy_url
from daemon.delivering.posthog.sink import AI_PATH, BATCH_PATH, MAX_REASON_CHARS
from daemon.delivering.retry import parse_http_date
from daemon.system.messages import excerpt
from daemon.system.secret import Secret
from llma_core import __version__

__all__ = ["Answer", "KeyVerdict", "PostHog", "ProxyUnusableError", "proxy_for"]

_FLAGS_PATH = "/flags/?v=2"
_TIMEOUT = httpx.Timeout(10.0)
_LIMIT_SECONDS = 20.0
"""How long a request and its answer may take in all. The timeout bounds each step, and a step may be one byte."""
_PAUSE_SECONDS = 1.0
_HEADERS = {
    "Accept": "*/*",
    "User-Agent": f"posthog-llma-daemon/{__version__}",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "Content-Encoding": "gzip",
}

KeyVerdict = Literal["accepted", "unknown", "unchecked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one request, or the reason why there is none.

    Attributes:
        status: the HTTP status; None without an answer.
        reason: why there is no answer, in a few words; empty with an answer.
        body: the first 64 KiB of the answer's body.
        ahead: seconds by which this machine's clock is ahead of the server's. Negative if it is behind, None if
            unknown.
    """

    status: int | None = None
    reason: str = ""
    body: str = ""
    ahead: float | None = None


class PostHog:
    """A PostHog host to check. Use it as a context manager.

    Each step of a request has a timeout of ten seconds, and a request with its answer one of twenty. Requests follow no
    redirect. TLS is verified against the system's trust store. Proxies come from the environment, as for events.
    Not to be used where an event loop runs.

    Args:
        host: `scheme://name[:port]`.
        pause: seconds before a second attempt.
        limit: seconds for a request and its answer in all.

    Raises:
        ProxyUnusableError: a proxy from the environment cannot be used.
    """

    def __init__(self, host: str, *, pause: float = _PAUSE_SECONDS, limit: float = _LIMIT_SECONDS) -> None:
        self._host = host
        self._pause = pause
        self._limit = limit
        proxy = proxy_url(host)
        try:
            self._transport = httpx.AsyncHTTPTransport(
                verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                proxy=httpx.Proxy(proxy) if proxy is not None else None,
            )
        except (ValueError, ImportError):
            raise ProxyUnusableError("the proxy from the environment cannot be used") from None

        # An event loop, because only there a whole exchange can be given up, whatever it waits for.
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._runner:
            self._runner.run(self._transport.aclose())

    def judge_key(self, key: Secret) -> tuple[KeyVerdict, Answer]:
        """Check whether a project has this key.

        Capture accepts any well-formed key, so this asks the feature flag endpoint, which knows the keys. The request
        evaluates no flag. The endpoint also rejects a key while it cannot look keys up, so a failure is tried twice.

        Returns:
            The verdict ("unchecked" if the endpoint gave no usable answer), and the last answer.
        """
        body = {"api_key": key.reveal(), "distinct_id": "doctor", "disable_flags": True}
        answer = self._post(_FLAGS_PATH, body)
        if answer.status != httpx.codes.OK:
            time.sleep(self._pause)
            answer = self._post(_FLAGS_PATH, body)
        if answer.status == httpx.codes.OK and answer.body.lstrip().startswith("{"):
            return "accepted", answer
        return ("unknown" if answer.status == httpx.codes.UNAUTHORIZED else "unchecked"), answer

    def ask_capture(self, key: Secret) -> tuple[str, Answer]:
        """Send capture an empty batch, which it refuses with 400. Return the path that answered, and its answer."""
        body = {"api_key": key.reveal(), "batch": []}
        answer = self._post(AI_PATH, body)
        if answer.status != httpx.codes.NOT_FOUND:
            return AI_PATH, answer
        return BATCH_PATH, self._post(BATCH_PATH, body)

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, str]:
        """Return the answer to a request and the beginning of its body."""
        async with (
            asyncio.timeout(self._limit),
            aclosing(await self._transport.handle_async_request(request)) as response,
        ):
            return response, await read_answer(response)

    def _post(self, path: str, body: Mapping[str, object]) -> Answer:
        # Without a client of httpx in between: it would look at where a redirect leads, and fail on some addresses.
        try:
            request = httpx.Request(
                "POST",
                self._host + path,
                content=gzip.compress(msgspec.json.encode(body), 1),
                headers=_HEADERS,
                extensions={"timeout": _TIMEOUT.as_dict()},
            )
            response, text = self._runner.run(self._exchange(request))
        except TimeoutError:
            return Answer(reason=f"no whole answer within {self._limit:g} seconds")
        except httpx.TimeoutException:
            return Answer(reason="no answer within ten seconds")
        except (httpx.TransportError, httpx.DecodingError) as error:
            return Answer(reason=excerpt(f"{type(error).__name__}: {error}", MAX_REASON_CHARS))
        except Exception as error:  # noqa: BLE001 -- whatever a host or an answer does to the HTTP libraries is an answer
            return Answer(reason=f"the request failed ({type(error).__name__})")
        return Answer(
            status=response.status_code,
            body=text,
            ahead=_ahead(response.headers.get("Date")),
        )


def proxy_for(host: str) -> str | None:
    """Return the proxy for requests to *host*, without user and password; None if they use no proxy."""
    try:
        proxy = proxy_url(host)
    except ProxyUnusableError:
        return "a proxy whose address cannot be read"
    if proxy is None:
        return None
    return f"{proxy.scheme}://{proxy.host}" + (f":{proxy.port}" if proxy.port else "")


def _ahead(date: str | None) -> float | None:
    """Return the seconds by which this machine's clock is ahead of a Date header; None if the header is unreadable."""
    server = parse_http_date(date or "")
    return None if server is None else time.time() - server
