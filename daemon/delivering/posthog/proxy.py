"""Proxy: which proxy requests to a host use, from the environment and the system's settings.

httpx reads the same variables, but fails on some values of NO_PROXY that are common (`::1` in brackets, networks of
IPv6), and looks at proxies that the host does not need.
"""

from __future__ import annotations

import re
import urllib.request
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import httpx

__all__ = ["ProxyUnusableError", "can_connect", "proxy_url"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
_HIGHEST_PORT = 65_535
_NAME = re.compile(r"[\w.-]+", re.ASCII)


class ProxyUnusableError(Exception):
    """The proxy from the environment cannot be used. The message is one line and leaves out the proxy's address."""


def proxy_url(host: str) -> httpx.URL | None:
    """Return the proxy for requests to *host*, with its user and password; None if they use no proxy.

    Args:
        host: `scheme://name[:port]`, perhaps with a path.

    Raises:
        ProxyUnusableError: the proxy has no usable scheme, host or port.
    """
    proxies = urllib.request.getproxies()
    scheme = urlsplit(host).scheme
    address = (proxies.get(scheme) or proxies.get("all") or "").strip()
    if not address or _is_bypassed(host, proxies.get("no", "")):
        return None
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
        usable = can_connect(url)
    except (httpx.InvalidURL, ValueError):
        # The error is not repeated: it quotes parts of the URL, and they may belong to a password.
        raise ProxyUnusableError(_message("its URL is not valid")) from None
    if url.scheme not in _SCHEMES:
        raise ProxyUnusableError(_message(f"its URL must begin with one of {', '.join(_SCHEMES)}, and ://"))
    if not usable:
        raise ProxyUnusableError(_message("its host or port is not valid"))
    return url


def can_connect(url: httpx.URL) -> bool:
    """Whether the host and the port of *url* are such that a connection can be tried.

    Raises:
        ValueError: the host is no name in the sense of IDNA.
    """
    if not url.host or (url.port is not None and not 0 < url.port <= _HIGHEST_PORT):
        return False
    name = url.raw_host.decode("ascii")
    if ":" in name:
        return True  # httpx has read it as an address of IPv6
    try:
        # Resolving a name encodes it so. An empty label or one that is too long is an error there.
        name.encode("idna")
    except UnicodeError:
        return False
    return _NAME.fullmatch(name) is not None


def _message(problem: str) -> str:
    return f"cannot use the proxy from the environment ({problem}): check HTTPS_PROXY and ALL_PROXY"


def _is_bypassed(host: str, no_proxy: str) -> bool:
    """Whether requests to *host* go around the proxy."""
    parts = urlsplit(host)
    name = (parts.hostname or "").rstrip(".")
    port = httpx.URL(host).port or {"http": 80, "https": 443}.get(parts.scheme)
    entries = re.split(r"[\s,]+", no_proxy)
    # The second knows the exceptions in the system's settings on macOS.
    return any(_names(entry, parts.scheme, name, port) for entry in entries) or bool(urllib.request.proxy_bypass(name))


def _names(entry: str, scheme: str, name: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY names a host: `*`, a domain, an address or a network, perhaps with a port."""
    before, separator, rest = entry.lower().partition("://")
    if separator and before not in (scheme, "all"):
        return False
    wanted = (rest if separator else before).removesuffix("/")
    if match := re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d+)", wanted):
        if int(match[2][:6]) != port:
            return False
        wanted = match[1]
    wanted = wanted.replace("[", "").replace("]", "")
    try:
        return ip_address(name) in ip_network(wanted, strict=False)
    except ValueError:
        pass  # the host is a name, or the entry is
    wanted = wanted.removeprefix("*").removeprefix(".").rstrip(".")
    if not wanted:
        return entry == "*"
    return name == wanted or name.endswith(f".{wanted}")
