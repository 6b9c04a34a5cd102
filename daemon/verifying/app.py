"""The app: PostHog's private API, which answers questions about a project to whoever has a personal API key.

The key goes to one host only, in a header. No redirect is followed, and no message holds the key.
"""

from __future__ import annotations

import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import truststore

from daemon.config.table import APP_NAME
from daemon.delivering.posthog.proxy import ProxyUnusableError, proxy_url
from daemon.delivering.posthog.web_app import app_host, personal_key_url
from daemon.delivering.retry import RetryPolicy, parse_retry_after, retry_delay
from daemon.system.messages import excerpt
from daemon.system.secret import Secret
from llma_core import __version__

__all__ = [
    "App",
    "AppError",
    "BadQueryError",
    "ForbiddenError",
    "NoProjectError",
    "NotThereError",
    "Pace",
    "Project",
    "Question",
    "app_of",
]

_TIMEOUT = httpx.Timeout(connect=10.0, read=180.0, write=30.0, pool=10.0)
"""A query may take minutes before the first byte of its answer."""
_ATTEMPTS = 6
_POLICY = RetryPolicy(base=1.0, cap=30.0, retry_after_cap=3600.0)
_PAGE = 100
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_MAX_REASON_CHARS = 200
_MAX_LISTED = 10_000
_SCOPE = re.compile(r"\b[a-z_]{2,40}:(?:read|write)\b")

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_NOT_FOUND = 404
_TOO_MANY = 429
_TIMED_OUT = 408
_SERVER_ERROR = 500


class AppError(Exception):
    """PostHog does not answer the question. The message says why and what to do, in one line without any key."""


class ForbiddenError(AppError):
    """The personal key may not ask this."""


class NotThereError(AppError):
    """There is nothing at the path, or something else than PostHog's web app answers."""


class NoProjectError(AppError):
    """No project that the personal key may see has the project key."""


class BadQueryError(AppError):
    """PostHog cannot run a query: it is of another version, or has no such table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query, with its values apart: PostHog puts them in, so that no text from a log becomes SQL.

    Attributes:
        text: the query in HogQL, with `{name}` in the place of each value.
        values: the values: strings, numbers, or lists of strings.
    """

    text: str
    values: Mapping[str, str | int | Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project of PostHog's.

    Attributes:
        id: its number, or `@current` where the key may not ask for it.
        name: its name; "" where the key may not ask for it.
        is_certain: whether it is the project with the given project key.
    """

    id: str
    name: str = ""
    is_certain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """An answer: its status, its JSON (None if it has none), and the two headers that matter."""

    status: int
    answer: object
    retry_after: str | None
    location: str | None


class Pace:
    """How fast to ask. PostHog's lowest limit is 120 queries an hour.

    Args:
        sleep: waits for some seconds.
        clock: a steady clock, in seconds.
        tell: called with the seconds before each wait that a person would notice, and with the reason.
        hourly: requests in an hour at most.
        gap: seconds between two requests at least.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[float, str], None] = lambda _seconds, _reason: None,
        hourly: int = 110,
        gap: float = 0.25,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._tell = tell
        self._hourly = hourly
        self._gap = gap
        self._asked: deque[float] = deque(maxlen=hourly)

    def wait(self, seconds: float, reason: str) -> None:
        """Wait, and tell why."""
        if seconds >= 1:
            self._tell(seconds, reason)
        self._sleep(seconds)

    def next(self) -> None:
        """Wait until another request may be made."""
        now = self._clock()
        if len(self._asked) == self._hourly and (left := self._asked[0] + 3600 - now) > 0:
            self.wait(left, f"PostHog allows {self._hourly} queries an hour")
        elif self._asked and (left := self._asked[-1] + self._gap - now) > 0:
            self._sleep(left)
        self._asked.append(self._clock())


class App:
    """PostHog's private API on one host. A context manager. TLS and proxies are as for events.

    Args:
        host: the web app, `scheme://name[:port]`.
        key: a personal API key.
        pace: how fast to ask.

    Raises:
        AppError: a proxy from the environment cannot be used.
    """

    def __init__(self, host: str, key: Secret, *, pace: Pace | None = None) -> None:
        self.host = host
        self._key = key
        self._pace = pace or Pace()
        try:
            proxy = proxy_url(host)
            transport = httpx.HTTPTransport(
                verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                proxy=httpx.Proxy(proxy) if proxy is not None else None,
            )
        except ProxyUnusableError as error:
            raise AppError(f"{error}: fix HTTPS_PROXY or ALL_PROXY") from None
        except (ValueError, ImportError):
            raise AppError("the proxy from the environment cannot be used: fix HTTPS_PROXY or ALL_PROXY") from None
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {key.reveal()}",
            "User-Agent": f"{APP_NAME}/{__version__}",
        }
        self._client = httpx.Client(
            headers=headers, transport=transport, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def check(self) -> None:
        """Check that PostHog knows the personal key, whatever the key may do.

        Raises:
            AppError: it does not, or does not answer.
        """
        with suppress(ForbiddenError):
            self._ask("GET", "/api/projects/@current/", scope="project:read")

    def project(self, key: Secret) -> Project:
        """Return the project that has the project key *key*.

        A personal key without the scope `project:read` cannot find it, but may know one project only.

        Raises:
            NoProjectError: the key may see projects, and none of them has *key*.
            AppError: PostHog does not answer.
        """
        seen = False
        try:
            for each in self._projects():
                seen = True
                if each.get("api_token") == key.reveal():
                    return _project(each)
        except ForbiddenError:
            # A key that is limited to some projects may list none, and its owner may have another one open. A key
            # without the scope may read none.
            limits = self._limits()
            for number in limits:
                with suppress(ForbiddenError):
                    each = self.read(f"/api/projects/{number}/", scope="project:read")
                    seen = True
                    if each.get("api_token") == key.reveal():
                        return _project(each)
            if not seen:
                return Project(id=limits[0] if len(limits) == 1 else "@current")
        raise NoProjectError(
            f"{self.host}: no project that your personal key can see has the project key {key.masked()}, so its events "
            "go to another project or nowhere; check POSTHOG_API_KEY, and which projects the personal key may see"
        )

    def _projects(self) -> Iterator[Mapping[str, Any]]:
        """Yield the projects that the personal key may see, the one that its owner has open first."""
        current = self._ask("GET", "/api/projects/@current/", scope="project:read")
        if isinstance(current, dict):
            yield current
        for each in self.list("/api/projects/", scope="project:read"):
            # Lists may leave the key out; then the project itself says it.
            if "api_token" in each or "id" not in each:
                yield each
            else:
                yield self.read(f"/api/projects/{each['id']}/", scope="project:read")

    def _limits(self) -> Sequence[str]:
        """Return the numbers of the projects that the personal key is limited to; none if it is not, or is not told."""
        with suppress(ForbiddenError, NotThereError, BadQueryError):
            own = self._ask("GET", "/api/personal_api_keys/@current/", scope="query:read")
            teams = own.get("scoped_teams") if isinstance(own, dict) else None
            return [str(team) for team in teams if isinstance(team, int)] if isinstance(teams, list) else []
        return []

    def query(self, project: Project, question: Question) -> list[list[Any]]:
        """Return the rows of an answer. PostHog computes it anew.

        Raises:
            BadQueryError: PostHog cannot run it.
            AppError: PostHog does not answer.
        """
        asked = {
            "query": {"kind": "HogQLQuery", "query": question.text, "values": dict(question.values)},
            "refresh": "force_blocking",
        }
        answer = self._ask("POST", f"/api/projects/{project.id}/query/", asked, scope="query:read")
        rows = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            said = answer.get("error") if isinstance(answer, dict) else None
            raise BadQueryError(f"{self.host} gives no rows for a query: {self._excerpt(str(said or 'no reason'))}")
        return rows

    def list(self, path: str, *, scope: str) -> Iterator[dict[str, Any]]:
        """Yield everything that a list of the API holds, page by page.

        Args:
            path: its path, without a query.
            scope: the scope that reading it needs.

        Raises:
            AppError: PostHog does not answer.
        """
        place = 0
        while place < _MAX_LISTED:
            page = self._thing(self._ask("GET", f"{path}?limit={_PAGE}&offset={place}", scope=scope))
            rows = page.get("results")
            rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            yield from rows
            # A page may be shorter than was asked for.
            place += len(rows)
            is_last = not page["next"] if "next" in page else len(rows) < _PAGE
            if is_last or not rows:
                return

    def read(self, path: str, *, scope: str) -> dict[str, Any]:
        """Return one thing of the API.

        Raises:
            AppError: PostHog does not answer.
        """
        return self._thing(self._ask("GET", path, scope=scope))

    def write(
        self, method: Literal["POST", "PATCH"], path: str, body: Mapping[str, object], *, scope: str
    ) -> dict[str, Any]:
        """Create or change one thing of the API, and return it. What is created is not tried twice.

        Raises:
            AppError: PostHog does not answer.
        """
        return self._thing(self._ask(method, path, body, scope=scope, again=method != "POST"))

    # ------------------------------------------------------------------ one request

    def _thing(self, answer: object) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise AppError(f"{self.host} answers with something else than PostHog's; {self._hint()}")
        return answer

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, scope: str, again: bool = True
    ) -> object:
        """Make a request until it is answered, and return the answer's JSON.

        Args:
            method: of the request.
            path: with the query.
            body: what to send as JSON.
            scope: what the key needs, for the message if it has not.
            again: whether to try again where nobody knows what became of the request.
        """
        content = None if body is None else msgspec.json.encode(body)
        for attempt in range(1, _ATTEMPTS + 1):
            self._pace.next()
            last = attempt == _ATTEMPTS
            try:
                response = self._exchange(method, path, content)
            except (httpx.TransportError, httpx.DecodingError) as error:
                if last or not again:
                    reason = self._excerpt(f"{type(error).__name__}: {error}")
                    raise AppError(
                        f"{self.host} cannot be reached ({reason}); check the network and HTTPS_PROXY"
                    ) from None
                self._pace.wait(self._delay(attempt), f"{self.host} cannot be reached")
                continue
            status = response.status
            if status == _TOO_MANY or (again and (status == _TIMED_OUT or status >= _SERVER_ERROR)):
                after = parse_retry_after(response.retry_after, time.time())
                if last or (after or 0) > _POLICY.retry_after_cap:
                    later = f"; try again in {after:,.0f} s" if after else "; try again later"
                    raise AppError(f"{self.host} answers {status}{later}")
                self._pace.wait(self._delay(attempt, after), f"{self.host} answers {status}")
                continue
            return self._judge(response, scope)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, method: str, path: str, content: bytes | None) -> _Response:
        headers = {} if content is None else {"Content-Type": "application/json"}
        with self._client.stream(method, self.host + path, content=content, headers=headers) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise AppError(f"{self.host} answers with more than {_MAX_ANSWER_BYTES:,} bytes; choose less")
        return _Response(
            status=response.status_code,
            answer=_decoded(bytes(body)),
            retry_after=response.headers.get("Retry-After"),
            location=response.headers.get("Location") if response.is_redirect else None,
        )

    def _delay(self, attempt: int, after: float | None = None) -> float:
        return retry_delay(_POLICY, attempt, retry_after=after, draw=0.5)

    def _judge(self, response: _Response, scope: str) -> object:
        status, answer = response.status, response.answer
        if httpx.codes.is_success(status) and answer is not None:
            return answer
        said = self._excerpt(_detail(answer))
        if response.location is not None:
            where = self._excerpt(_host_in(response.location) or "itself")
            raise AppError(f"{self.host} redirects to {where}, where no key is sent; {self._hint()}")
        if status == _UNAUTHORIZED:
            raise AppError(
                f"{self.host} does not know the personal key {self._key.masked()}; create one at "
                f"{personal_key_url(self.host)} and run `{APP_NAME} login --personal-key-stdin`"
            )
        if status == _FORBIDDEN:
            needed = next(iter(_SCOPE.findall(said)), scope)
            words = f" ({said})" if said else ""
            raise ForbiddenError(
                f"{self.host} does not allow that to the personal key {self._key.masked()}{words}; it needs the scope "
                f"{needed} and access to the project: {personal_key_url(self.host)}"
            )
        if status == _NOT_FOUND or answer is None:
            raise NotThereError(f"{self.host} answers {status}, not as PostHog's web app does; {self._hint()}")
        raise BadQueryError(f"{self.host} refuses the request with {status}: {said or 'no reason given'}")

    def _hint(self) -> str:
        return (
            "if events go through a reverse proxy, set POSTHOG_APP_HOST to the address of PostHog's web app, such as "
            "https://us.posthog.com"
        )

    def _excerpt(self, text: str) -> str:
        return excerpt(text.replace(self._key.reveal(), "[key]"), _MAX_REASON_CHARS)


def app_of(host: str, configured: str | None) -> str:
    """Return the host of the web app: the configured one, else the one that belongs to an ingestion host."""
    return configured or app_host(host)


def _project(found: Mapping[str, Any]) -> Project:
    return Project(id=str(found.get("id", "@current")), name=str(found.get("name", "")), is_certain=True)


def _decoded(body: bytes) -> object:
    try:
        found: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found


def _host_in(location: str) -> str | None:
    try:
        return urlsplit(location).hostname
    except ValueError:
        return None


def _detail(answer: object) -> str:
    """Return the words with which PostHog refuses something."""
    if not isinstance(answer, dict):
        return ""
    return next((words for name in ("detail", "error", "code") if isinstance(words := answer.get(name), str)), "")
