from __future__ import annotations

import pytest

from daemon.delivering.posthog.proxy import proxy_url

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", PROXY)


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        ("https://us.i.posthog.com", "", False),
        ("https://us.i.posthog.com", "*", True),
        ("https://us.i.posthog.com", "a, * ,b", True),
        ("https://us.i.posthog.com", "posthog.com", True),
        ("https://us.i.posthog.com", ".posthog.com", True),
        ("https://us.i.posthog.com", "*.posthog.com", True),
        ("https://us.i.posthog.com", "PostHog.com.", True),
        ("https://us.i.posthog.com", "a b posthog.com", True),
        ("https://us.i.posthog.com", "hog.com", False),
        ("https://us.i.posthog.com", "i.posthog.com:443", True),
        ("https://us.i.posthog.com", "i.posthog.com:8443", False),
        ("https://us.i.posthog.com", "https://us.i.posthog.com", True),
        ("https://us.i.posthog.com", "http://us.i.posthog.com", False),
        ("https://us.i.posthog.com:8443/ingest", "i.posthog.com:8443", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "10.0.0.0/99,192.168.0.0/16", False),
        ("https://[::1]:8000", "::1", True),
        ("https://[::1]:8000", "[::1]", True),
        ("https://[::1]:8000", "[::1]:8000", True),
        ("https://[::1]:8000", "[::1]:8001", False),
        ("https://[fd12::5]", "fd00::/8", True),
        ("https://[fd12::5]", "[fd00::]/8", True),
        ("https://[fd12::5]", "2001:db8::/32", False),
        ("https://[fd12::5]", "fd12:0:0::5", True),
    ],
)
def test_no_proxy_names_domains_addresses_and_networks(
    host: str, no_proxy: str, bypassed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_url(host) == (None if bypassed else PROXY)


def test_a_proxy_for_another_scheme_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://nowhere:70")
    assert proxy_url("https://us.i.posthog.com") == PROXY


def test_one_proxy_may_serve_every_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "other.example:1")
    assert proxy_url("http://10.1.2.3") == "http://other.example:1"
    assert proxy_url("https://10.1.2.3") == PROXY
