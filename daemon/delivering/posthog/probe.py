"""Questions to PostHog that send no event: does it know the key, does capture answer, what time is it there."""

from __future__ import annotations

import gzip
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import truststore

from daemon.config.settings import Secret
from daemon.delivering.posthog.sink import AI_PATH, BATCH_PATH
from llma_core import __version__

__all__ = ["Answer", "KeyVerdict", "PostHog", "ProxyUnusableError", "proxy_for"]

_FLAGS_PATH = "/flags/?v=2"
_TIMEOUT = httpx.Timeout(10.0)
_PAUSE_SECONDS = 1.0
_MAX_ANSWER_BYTES = 65_536

KeyVerdict = Literal["accepted", "unknown", "unchecked"]


class ProxyUnusableError(Exception):
    """The environment names a proxy that cannot be used; the message says so in one line, without its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request.

    Attributes:
        status: the HTTP status; None where no answer came.
        reason: in a few words why no answer came.
        body: the beginning of the answer's body.
        ahead: by how many seconds this machine's clock is ahead of the server's; negative: behind; None if unknown.
    """

    status: int | None = None
    reason: str = ""
    body: str = ""
    ahead: float | None = None


class PostHog:
    """A PostHog host. A context manager; requests take at most ten seconds, and follow no redirect.

    TLS is verified against the system's trust store; proxies come from the environment, as when events are sent.

    Args:
        host: `scheme://name[:port]`.
        pause: seconds before a second attempt.

    Raises:
        ProxyUnusableError: a proxy of the environment cannot be used.
    """

    def __init__(self, host: str, *, pause: float = _PAUSE_SECONDS) -> None:
        self._host = host
        self._pause = pause
        try:
            self._client = httpx.Client(
                headers={"User-Agent": f"posthog-llma-daemon/{__version__}", "Accept-Encoding": "identity"},
                verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                timeout=_TIMEOUT,
                follow_redirects=False,
            )
        except (httpx.InvalidURL, ValueError, ImportError):
            raise ProxyUnusableError("the proxy of the environment cannot be used") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def judge_key(self, key: Secret) -> tuple[KeyVerdict, Answer]:
        """Say whether a project has this key.

        Capture takes any key of the right form, so the endpoint of feature flags is asked, which knows; no flag is
        evaluated by it. It also says "unknown" while it cannot look keys up, so it is asked twice.
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
        """Ask capture to take no events at all, which it refuses with 400; return the path that answered, and how."""
        body = {"api_key": key.reveal(), "batch": []}
        answer = self._post(AI_PATH, body)
        if answer.status != httpx.codes.NOT_FOUND:
            return AI_PATH, answer
        return BATCH_PATH, self._post(BATCH_PATH, body)

    def _post(self, path: str, body: Mapping[str, object]) -> Answer:
        try:
            with self._client.stream(
                "POST",
                self._host + path,
                content=gzip.compress(msgspec.json.encode(body), 1),
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
            ) as response:
                text = bytearray()
                for chunk in response.iter_bytes():
                    text += chunk
                    if len(text) > _MAX_ANSWER_BYTES:
                        break
        except httpx.TimeoutException:
            return Answer(reason="no answer within ten seconds")
        except (httpx.TransportError, httpx.DecodingError) as error:
            return Answer(reason=_plain(f"{type(error).__name__}: {error}"))
        return Answer(
            status=response.status_code,
            body=bytes(text[:_MAX_ANSWER_BYTES]).decode("utf-8", "replace"),
            ahead=_ahead(response.headers.get("Date")),
        )


def proxy_for(host: str) -> str | None:
    """Return the proxy that requests to *host* take, without user and password; None where they take none."""
    parts = urlsplit(host)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address:
        return None
    try:
        proxy = urlsplit(address if "://" in address else f"http://{address}")
        return f"{proxy.scheme}://{proxy.hostname}" + (f":{proxy.port}" if proxy.port else "")
    except ValueError:
        return "a proxy whose address cannot be read"


def _ahead(date: str | None) -> float | None:
    try:
        server = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    if server.tzinfo is None:
        server = server.replace(tzinfo=UTC)
    return (datetime.now(UTC) - server).total_seconds()


def _plain(text: str) -> str:
    return "".join(char for char in " ".join(text.split()) if char.isprintable())[:200]
