"""Who may read the page: only the browser that was opened with the token, only from this machine, only by this page.

A server on loopback can be reached by every page that the user's browser shows, so each request must show three things:
it names this server as its host (a name that an attacker points here does not), it comes from this page or from the
address bar, and it carries the cookie that the token was exchanged for.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Access", "Guard"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Access:
    """The secrets of one server, and where it is.

    Args:
        port: the port of the server on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._token: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)

    @property
    def address(self) -> str:
        """The address to open once: it holds the token."""
        query = f"?{urlencode({'token': self._token})}" if self._token is not None else ""
        return f"http://127.0.0.1:{self.port}/{query}"

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts by which a browser may call this server."""
        return frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"})

    @property
    def cookie_name(self) -> str:
        """The cookie's name. Cookies are shared by all ports of a host, so it names the port."""
        return f"llma_{self.port}"

    def redeem(self, token: str) -> str | None:
        """Exchange the token for the cookie, once; None if it is wrong or was used."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        self._token = None
        return self._cookie

    def admits(self, cookie: str) -> bool:
        """Whether a cookie is the one of this server."""
        return hmac.compare_digest(cookie.encode(), self._cookie.encode())


class Guard:
    """Lets only admitted requests through to *app*, and adds the headers that bind the browser to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            # Neither websockets nor anything else is served.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._look(scope)
        await (refusal or self._app)(scope, receive, send_bound)

    def _look(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let through; None for one that is."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._access.hosts:
            return PlainTextResponse("This server answers only as 127.0.0.1.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This page only reads.\n", 405, {"Allow": "GET, HEAD"})
        if not self._is_own(headers):
            return PlainTextResponse("Another page may not read this one.\n", 403)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [None])[0]
        if token is not None and scope["path"] == "/":
            cookie = self._access.redeem(token)
            if cookie is not None:
                answer = RedirectResponse("/", 303)
                answer.set_cookie(self._access.cookie_name, cookie, httponly=True, samesite="strict", path="/")
                return answer
        if not self._access.admits(_cookie(headers, self._access.cookie_name)):
            return PlainTextResponse(
                "Open the address that `posthog-llma-daemon view` has printed. It works once; for another browser, "
                "start `view` again.\n",
                401,
            )
        return None

    def _is_own(self, headers: Headers) -> bool:
        """Whether the page itself asks, or a person by the address bar. Programs that say nothing need the cookie."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self._access.hosts}:
            return False
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _cookie(headers: Headers, name: str) -> str:
    for pair in headers.get("cookie", "").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""
